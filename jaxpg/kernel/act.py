"""The device half of the kernel: one jitted function turns raw observations into actions for a whole population."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxpg.core.types import MEMBERS, Params, PolicyFunctions, Population, Tape
from jaxpg.policies.networks import on_tape
from jaxpg.policies.observations import Observation


def make_act(
    policy: PolicyFunctions, observation: Observation, axes: tuple[int, ...], num_lanes: int
) -> Callable[..., tuple[jax.Array, Tape | None]]:
    """Builds the jitted ``act(population, raw, noise, tape, row, first_lane) -> (actions i32[n], tape)``.

    One call acts for ``n`` neighbouring lanes out of N, beginning with lane ``first_lane``. The arguments of ``act``:

    - ``population``: the weights of P members on a leading axis; P divides N. With P > 1 the n lanes are all the lanes
      of some members.
    - ``raw``: ``[n, ...]``, observations as the emulator gives them.
    - ``noise``: ``gumbel_noise`` for all rows and all N lanes, or None for the most probable actions.
    - ``tape``: donated; ``act`` writes these lanes into its row ``row``. None records nothing.

    A policy with memory would pass one carry per lane through ``act``, in the same way as ``tape``.

    Args:
      policy: the policy's pure functions.
      observation: encodes raw observations.
      axes: transposition of one raw observation into the canonical layout (``EnvSpec.axes``).
      num_lanes: N.
    """

    @jax.vmap
    def encode(raw: jax.Array) -> jax.Array:
        return observation.encode(jnp.transpose(raw, axes))

    apply = on_tape(policy, observation)

    def act_lanes(params: Params, raw: jax.Array, noise: jax.Array | None) -> Tape:
        # the barrier stops XLA from fusing decoding with encoding, which took ten times as long on CPU
        encoded = jax.lax.optimization_barrier(encode(raw))
        logits, value = apply(params, encoded)
        action = jnp.argmax(logits if noise is None else logits + noise, axis=-1).astype(jnp.int32)
        return Tape(encoded, action, logits, value)

    def act_members(population: Population, raw: jax.Array, noise: jax.Array | None) -> Tape:
        if len(raw) > 1:
            return jax.vmap(act_lanes, axis_name=MEMBERS)(population, raw, noise)
        # on CPU a batched product of a single matrix is a tenth slower than a product without the batch axis
        alone, *lanes = jax.tree.map(lambda x: x[0], (population, raw, noise))
        return jax.tree.map(lambda x: x[None], act_lanes(alone, *lanes))

    @partial(jax.jit, donate_argnames="tape")
    def act(
        population: Population, raw: jax.Array, noise: jax.Array | None, tape: Tape | None, row: int, first_lane: int
    ) -> tuple[jax.Array, Tape | None]:
        if noise is not None:
            size = (1, raw.shape[0], noise.shape[2])
            noise = jax.lax.dynamic_slice(noise, (row, first_lane, 0), size)[0]
        lanes_per_member = num_lanes // jax.tree.leaves(population)[0].shape[0]
        members = max(raw.shape[0] // lanes_per_member, 1)
        if raw.shape[0] < num_lanes and lanes_per_member < num_lanes:  # these lanes are one pool of several
            population = _some_members(population, first_lane // lanes_per_member, members)
        by_member = partial(jax.tree.map, lambda x: x.reshape(members, -1, *x.shape[1:]))
        flat = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), act_members(population, by_member(raw), by_member(noise))
        )
        return flat.action, None if tape is None else _written(tape, flat, row, first_lane)

    return act


def _some_members(population: Population, first: int, number: int) -> Population:
    """The weights of ``number`` members, beginning with member ``first``."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, number), population)


def _written(tape: Tape, lanes: Tape, row: int, first_lane: int) -> Tape:
    """Writes neighbouring lanes, from ``first_lane`` on, into one row of the tape."""

    def write(whole: jax.Array, part: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(whole, part[None], (row, first_lane, *(0,) * (part.ndim - 1)))

    return jax.tree.map(write, tape, lanes)


@partial(jax.jit, static_argnames=("num_rows", "num_lanes", "num_actions"))
def gumbel_noise(key: jax.Array, num_rows: int, num_lanes: int, num_actions: int, first_lane: int = 0) -> jax.Array:
    """Gumbel noise ``f32[num_rows, N, A]``: the argmax of logits plus noise is a sample of the logits' softmax.

    Each lane draws from a key that depends only on ``key``, the row and the lane's number. A lane therefore acts the
    same, whatever other lanes play beside it. All rows are drawn at once, because on CPU the hundred small loops of
    one draw take as long as a linear policy.
    """

    def draw(row: jax.Array, lane: jax.Array) -> jax.Array:
        own_key = jax.random.fold_in(jax.random.fold_in(key, row), lane)
        return jax.random.gumbel(own_key, (num_actions,))

    over_lanes = jax.vmap(draw, in_axes=(None, 0))
    return jax.vmap(over_lanes, in_axes=(0, None))(jnp.arange(num_rows), first_lane + jnp.arange(num_lanes))
