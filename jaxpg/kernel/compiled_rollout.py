"""Many agent steps as one compiled program, where the emulators can be called from one.

Between an answer of the emulators and the next actions there is no Python then, no hand-over between threads and no
copy, which is some of what an agent step of a small network costs on CPU (docs/performance.md).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxpg.core.types import CompilableEnv, Population, RawAnswers, Tape, TimeStep
from jaxpg.kernel.clock import Clock, Seconds

AGENT_STEPS_AT_ONCE = 64
"""Agent steps of a program's call; between calls one can see that the emulators answer."""

AGENT_STEPS_PER_SAMPLE = 32
"""Agent steps of which the second is timed: a look at the clock takes a tenth of a millisecond."""

_Now = tuple[jax.Array, jax.Array, Tape, RawAnswers]
"""The emulators' handle, the newest observation, and what the played rows are written to."""


class CompiledRollout:
    """Plays whole rollouts of one policy in all lanes of a pool, as ``act``, ``send`` and ``recv`` in turns do.

    Valid until the pool is reset or closed: its address is in the program, which is therefore compiled anew for each,
    and never kept in the cache of compiled code (the looks at the clock see to that). What is played is the same to
    the bit, except where XLA rounds differently inside a loop, as it does in convolutions.

    Args:
      act: from ``make_act``.
      pool: freshly reset or replayed, with its newest answer received.
    """

    def __init__(self, act: Callable[..., tuple[jax.Array, Tape | None]], pool: CompilableEnv):
        self._pool = pool
        self._clock = clock = Clock()
        emulators = pool.compiled()
        self._handle = jnp.asarray(emulators.handle)
        *_, self._answer = jax.eval_shape(emulators.recv, self._handle)
        table = jnp.asarray(emulators.actions)

        def play(row: jax.Array, now: _Now, population: Population, noise: jax.Array | None) -> _Now:
            handle, observation, tape, answers = now
            actions, written = act(population, observation, noise, tape, row, 0)
            assert written is not None, "there is a tape"
            of_sample = row % AGENT_STEPS_PER_SAMPLE
            handle = _looked(clock, "act", of_sample == 1, handle, actions)
            handle, observation, answer = emulators.recv(emulators.send(handle, table[actions]))
            handle = _looked(clock, "emulate", of_sample == 1, handle, handle)
            handle = _looked(clock, None, of_sample == 0, handle, handle)
            answers = jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=row, axis=0), answers, answer)
            return handle, observation, written, answers

        @partial(jax.jit, donate_argnames="now")
        def play_rows(population: Population, noise: jax.Array | None, now: _Now, first: int, end: int) -> _Now:
            return jax.lax.fori_loop(first, end, partial(play, population=population, noise=noise), now)

        self._play_rows = play_rows

    def __call__(
        self,
        population: Population,
        noise: jax.Array | None,
        tape: Tape,
        observation: np.ndarray,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> tuple[Tape, TimeStep, Seconds]:
        """Plays the T agent steps of the tape, at least two, which begin with ``observation``.

        Args:
          population: as ``act`` takes it.
          noise: of at least T rows, or None for the most probable actions.
          tape: donated; gets the rows 0 to T - 1.
          observation: ``[N, ...]``, raw.
          waiting: around each wait for the emulators.

        Returns:
          The tape, a ``TimeStep`` led by T whose observation is the newest one alone, and a sample of the time.
        """
        before, num_agent_steps = self._clock.seconds, len(tape.action) - 1
        answers = jax.tree.map(lambda x: jnp.zeros((num_agent_steps, *x.shape), x.dtype), self._answer)
        now = (self._handle, jnp.array(observation), tape, answers)  # copied, because it is donated
        for first in range(0, num_agent_steps, AGENT_STEPS_AT_ONCE):
            end = min(first + AGENT_STEPS_AT_ONCE, num_agent_steps)
            with waiting():
                now = jax.block_until_ready(self._play_rows(population, noise, now, first, end))
        self._handle, newest, tape, answers = now
        steps = self._pool.interpret(jax.device_get(answers))
        sample = Seconds(*(now - then for now, then in zip(self._clock.seconds, before, strict=True)))
        return tape, steps._replace(observation=np.asarray(newest)), sample


def _looked(clock: Clock, phase: str | None, looks: jax.Array, handle: jax.Array, after: jax.Array) -> jax.Array:
    """The handle, and where ``looks`` is true a lap of the clock between ``after`` and what needs this handle."""
    nothing = np.zeros((), handle.dtype)

    def look(after: jax.Array) -> np.ndarray:  # JAX keeps it, and with it all that it knows
        del after
        if phase is None:
            clock.begin()
        else:
            clock.lap(phase)
        return nothing

    return handle + jax.lax.cond(looks, lambda: io_callback(look, nothing, after[0]), lambda: jnp.asarray(nothing))
