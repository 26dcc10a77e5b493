"""Mean and standard deviation of all policy inputs seen so far, by which inputs are standardised."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.types import Experience, Params
from jaxpg.learners.statistics import Statistics, deviation, merge, no_statistics, of_sample
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import MOST_DEVIATIONS, standardised
from jaxpg.policies.observations import Observation, unit_scale

SAMPLED_ROWS = 8
"""Most agent steps of a rollout, in all lanes, whose inputs ``input_clip_fraction`` looks at."""


def add_seen(
    statistics: Statistics, observation: Observation, experiences: Sequence[Experience], team: Team
) -> Statistics:
    """Adds the observations of one iteration, on all devices of the team, to the statistics.

    Observations of autoreset steps and of idle lanes do not count.

    Args:
      statistics: the statistics so far.
      observation: decodes the tape.
      experiences: one for each device of this process; each has a tape.
      team: all devices of the run.
    """
    seen = [of_rows(observation, *_encoded_and_acted(experience)) for experience in experiences]
    return _merged(statistics, team.reduce(_merge_all, seen))


def input_clip_fraction(
    params: Params, observation: Observation, experiences: Sequence[Experience], team: Team
) -> jax.Array:
    """Computes the share of inputs that lie at the clip of ``policies.networks.with_normalizer``, ``f32[]``.

    The sample is all lanes of at most ``SAMPLED_ROWS`` agent steps, evenly spaced over the rollout. Autoreset steps and
    idle lanes do not count. The share is 0 where nothing counts.

    Args:
      params: the params that acted; those of ``with_normalizer``.
      observation: decodes the tape.
      experiences: one for each device of this process; each has a tape.
      team: all devices of the run.
    """
    normalizer = {name: params[name] for name in ("mean", "std")}
    counts = [
        clipped_in_rows(observation, jax.device_put(normalizer, device), *_encoded_and_acted(experience))
        for device, experience in zip(team.devices, experiences, strict=True)
    ]
    return share_of(team.reduce(_sum_over_devices, counts))


def _encoded_and_acted(experience: Experience) -> tuple[jax.Array, np.ndarray]:
    """The tape's observations ``[T+1, n, ...]``, and which of them count, ``bool[T+1, n]``."""
    assert experience.tape is not None, "statistics of observations need the tape"
    acted = np.zeros(experience.tape.action.shape, bool)  # the same shape even where a round ended early
    acted[: len(experience.acted)] = experience.acted
    return experience.tape.observation, acted


@partial(jax.jit, static_argnames="observation")
def of_rows(observation: Observation, encoded: jax.Array, acted: jax.Array) -> Statistics:
    """Computes the statistics of a tape's observations row by row, so that only one row is decoded at a time.

    Args:
      observation: decodes the tape.
      encoded: ``[T, N, ...]``, the tape's observations.
      acted: ``bool[T, N]``, which observations count.
    """

    def add_row(so_far: Statistics, row: tuple[jax.Array, jax.Array]) -> tuple[Statistics, None]:
        inputs = unit_scale(jax.vmap(observation.decode)(row[0]))
        weight = row[1].reshape(-1, *(1,) * (inputs.ndim - 1)).astype(jnp.float32)
        return merge(so_far, of_sample(inputs, weight, axis=0)), None

    shape = jax.eval_shape(observation.decode, encoded[0, 0]).shape
    return jax.lax.scan(add_row, no_statistics(shape), (encoded, acted))[0]


@jax.jit
def moments(statistics: Statistics) -> dict[str, jax.Array]:
    """The ``mean`` and ``std`` for the params of ``policies.networks.with_normalizer``; 0 and 1 before any input."""
    return {"mean": statistics.mean, "std": jnp.where(statistics.number > 0, deviation(statistics), 1.0)}


@partial(jax.jit, static_argnames="observation")
def clipped_in_rows(
    observation: Observation, normalizer: Params, encoded: jax.Array, acted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sums the share of clipped inputs over a sample of observations, and counts the observations; ``f32[]`` each."""
    last = encoded.shape[0] - 2  # the row after the rollout's T agent steps is no agent step
    rows = np.unique(np.linspace(0, last, SAMPLED_ROWS).astype(int))

    def add_row(so_far: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        inputs = standardised(normalizer, jax.vmap(observation.decode)(encoded[row]))
        clipped = (jnp.abs(inputs) >= MOST_DEVIATIONS).reshape(len(inputs), -1).mean(axis=1)
        weight = acted[row].astype(jnp.float32)
        return (so_far[0] + (weight * clipped).sum(), so_far[1] + weight.sum()), None

    return jax.lax.scan(add_row, (jnp.zeros(()), jnp.zeros(())), jnp.asarray(rows))[0]


@jax.jit
def share_of(counts: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Divides the sum of ``clipped_in_rows`` by the number of observations; 0 where there is none."""
    part, whole = counts
    return part / jnp.maximum(whole, 1)


def _sum_over_devices(counts: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return jax.tree.map(lambda x: x.sum(0), counts)


_merged = jax.jit(merge)


def _merge_all(statistics: Statistics) -> Statistics:
    """Merges the statistics of all devices (leading axis) one by one, so that every process gets the same bits."""
    first = jax.tree.map(lambda x: x[0], statistics)
    rest = jax.tree.map(lambda x: x[1:], statistics)
    return jax.lax.scan(lambda so_far, one: (merge(so_far, one), None), first, rest)[0]
