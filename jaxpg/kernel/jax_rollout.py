"""Plays whole rollouts of environments written in JAX as one program, which acts and steps on the device."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.errors import FaultError
from jaxpg.core.types import Answers, InJax, Lanes, Population, Tape, TimeStep
from jaxpg.envs.jax_lanes import is_key
from jaxpg.kernel.outcomes import EpisodeCounter

NOT_FINITE = "the environment gave a reward or an observation that is infinite or NaN"
Act = Callable[..., tuple[jax.Array, Tape | None]]
"""What ``make_act`` returns."""


class SavedLanes(NamedTuple):
    """What a checkpoint stores of N lanes. Every leaf has the leading axis N."""

    lanes: Lanes
    episodes: jax.Array  # u32[N, 5], ``EpisodeCounter.saved``


class JaxRollout:
    """Plays rollouts of one policy in all lanes of a pool. Nothing visits the host within a rollout.

    Args:
      act: from ``make_act``.
      pool: the lanes.
    """

    def __init__(self, act: Act, pool: InJax):
        self._pool = pool
        self._play = jax.jit(partial(play_lanes, act, pool.advance, jnp.asarray(pool.actions)), donate_argnames="tape")

    def __call__(
        self,
        population: Population,
        noise: jax.Array | None,
        tape: Tape,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> tuple[Tape, Answers, list[TimeStep]]:
        """Plays T agent steps from where the lanes are. The tape's length determines T.

        Args:
          population: as ``act`` takes it.
          noise: at least T rows, or None for the most probable actions.
          tape: donated; the call writes its rows 0 to T - 1.
          waiting: makes the context manager that surrounds the wait for the device.

        Returns:
          The tape; the answers on the host, ``[T, N]`` each; and for the bootstrap the newest ``TimeStep``, whose
          observation is on the device.

        Raises:
          FaultError: the environment gave a reward or an observation that is infinite or NaN. The lanes stay where
            they were.
        """
        tape, lanes, answers = self._play(population, noise, tape, self._pool.lanes)
        finite = all_finite((tape.observation, lanes.observation, answers.reward))
        with waiting():
            on_host, finite = jax.device_get((answers, finite))
        if not finite:
            raise FaultError(NOT_FINITE)
        self._pool.lanes = lanes
        return tape, on_host, [TimeStep(lanes.observation, *(column[-1] for column in on_host))]

    def saved(self, counter: EpisodeCounter) -> SavedLanes:
        """Where the lanes are. Typed keys become plain numbers."""
        lanes = jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, self._pool.lanes)
        device = next(iter(lanes.key.devices()))
        return SavedLanes(lanes, jax.device_put(counter.saved(), device))

    def restore(self, saved: SavedLanes, counter: EpisodeCounter) -> None:
        """Brings the lanes, which have been reset, back to where they were."""

        def as_before(known: jax.Array, x: jax.Array) -> jax.Array:
            return jax.random.wrap_key_data(x, impl=jax.random.key_impl(known)) if is_key(known) else x

        self._pool.lanes = jax.tree.map(as_before, self._pool.lanes, saved.lanes)
        counter.restore(np.asarray(saved.episodes))


def play_lanes(
    act: Act,
    advance: Callable[[Lanes, jax.Array], tuple[Lanes, Answers]],
    table: jax.Array,
    population: Population,
    noise: jax.Array | None,
    tape: Tape,
    lanes: Lanes,
) -> tuple[Tape, Lanes, Answers]:
    """Acts and steps for T rows. A pure function.

    Args:
      act: from ``make_act``.
      advance: steps the lanes.
      table: the environment's action for each policy action, ``i32[A]``.
      population: as ``act`` takes it.
      noise: at least T rows, or None for the most probable actions.
      tape: T + 1 rows, of which T are written.
      lanes: N lanes.

    Returns:
      The tape, the lanes after the last row, and the answers, ``[T, N]`` each.
    """

    def row(now: tuple[Lanes, Tape], number: jax.Array) -> tuple[tuple[Lanes, Tape], Answers]:
        lanes, tape = now
        actions, written = act(population, lanes.observation, noise, tape, number, 0)
        assert written is not None, "there is a tape"
        lanes, answers = advance(lanes, table[actions])
        return (lanes, written), answers

    (lanes, tape), answers = jax.lax.scan(row, (lanes, tape), jnp.arange(len(tape.action) - 1))
    return tape, lanes, answers


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether all floating-point numbers of a pytree are finite, ``bool[]``."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).all() for x in floats]).all()
