"""Plays many agent steps as one compiled program, for emulators that compiled code can call.

Such a program runs no Python, switches no threads and copies nothing between the emulators' answer and the next
actions. For small networks on CPU this saves a noticeable part of each agent step (docs/performance.md).
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
from jaxpg.machine.xla import compiled_code_not_kept

AGENT_STEPS_AT_ONCE = 64
"""Agent steps of one call of the program. Between calls Python can see that the emulators still answer."""

AGENT_STEPS_PER_SAMPLE = 32
"""One agent step in this many is timed, because reading the clock takes a tenth of a millisecond."""

_Now = tuple[jax.Array, jax.Array, Tape, RawAnswers]
"""The emulators' handle, the newest observation, the tape, and the emulators' answers so far."""


class CompiledRollout:
    """Plays whole rollouts of one policy in all lanes of a pool, as a loop of ``act``, ``send`` and ``recv`` would.

    The program holds the address of the pool, so it is valid only until the pool is reset or closed, and every reset
    compiles a new one. So the program is not stored in the cache of compiled code, which would grow with every start.
    The result equals that of the Python loop to the bit, except where XLA rounds differently inside a loop, as it does
    in convolutions.

    Args:
      act: from ``make_act``.
      pool: the emulators, reset or replayed; their newest answer has been received.
      device: where the program runs, or None for JAX's default.
    """

    def __init__(
        self, act: Callable[..., tuple[jax.Array, Tape | None]], pool: CompilableEnv, device: jax.Device | None
    ):
        self._pool = pool
        self._clock = clock = Clock()
        emulators = pool.compiled()
        self._device = device
        self._handle = jax.device_put(emulators.handle, device)
        *_, answer = jax.eval_shape(emulators.recv, self._handle)
        table = emulators.actions

        def play(row: jax.Array, now: _Now, population: Population, noise: jax.Array | None) -> _Now:
            handle, observation, tape, answers = now
            actions, written = act(population, observation, noise, tape, row, 0)
            assert written is not None, "there is a tape"
            of_sample = row % AGENT_STEPS_PER_SAMPLE
            handle = _looked(clock, "act", of_sample == 1, handle, actions)
            handle, observation, answer = emulators.recv(emulators.send(handle, jnp.asarray(table)[actions]))
            handle = _looked(clock, "emulate", of_sample == 1, handle, handle)
            handle = _looked(clock, None, of_sample == 0, handle, handle)
            answers = jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=row, axis=0), answers, answer)
            return handle, observation, written, answers

        @partial(jax.jit, donate_argnames="now")
        def play_rows(population: Population, noise: jax.Array | None, now: _Now, first: int, end: int) -> _Now:
            return jax.lax.fori_loop(first, end, partial(play, population=population, noise=noise), now)

        self._play_rows = play_rows
        self._no_answers = jax.jit(partial(_zeros_in_rows, answer), static_argnums=0)

    def __call__(
        self,
        population: Population,
        noise: jax.Array | None,
        tape: Tape,
        observation: np.ndarray,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> tuple[Tape, TimeStep, Seconds]:
        """Plays T agent steps from ``observation`` on. The tape's length determines T, which is at least 2.

        Args:
          population: as ``act`` takes it.
          noise: at least T rows, or None for the most probable actions.
          tape: donated; the call writes its rows 0 to T - 1.
          observation: ``[N, ...]``, raw.
          waiting: makes the context manager that surrounds each wait for the emulators.

        Returns:
          The tape; a ``TimeStep`` with the leading axis T, except that its observation is the newest one alone; and
          the seconds of the agent steps that were timed.
        """
        before, num_agent_steps = self._clock.seconds, len(tape.action) - 1
        # Bound to the device as the program's results are: otherwise its second call would compile it again.
        first, no_answers = jax.device_put((jnp.array(observation), self._no_answers(num_agent_steps)), self._device)
        now = (self._handle, first, tape, no_answers)
        with compiled_code_not_kept():
            for begin in range(0, num_agent_steps, AGENT_STEPS_AT_ONCE):
                end = min(begin + AGENT_STEPS_AT_ONCE, num_agent_steps)
                with waiting():
                    now = jax.block_until_ready(self._play_rows(population, noise, now, begin, end))
        self._handle, newest, tape, answers = now
        steps = self._pool.interpret(jax.device_get(answers))
        sample = Seconds(*(now - then for now, then in zip(self._clock.seconds, before, strict=True)))
        return tape, steps._replace(observation=np.asarray(newest)), sample


def _zeros_in_rows(row: RawAnswers, num_rows: int) -> RawAnswers:
    return jax.tree.map(lambda x: jnp.zeros((num_rows, *x.shape), x.dtype), row)


def _looked(clock: Clock, phase: str | None, looks: jax.Array, handle: jax.Array, after: jax.Array) -> jax.Array:
    """Returns the handle unchanged. Where ``looks`` is true, the clock takes a lap once ``after`` is computed.

    Whatever needs the returned handle runs after that lap.
    """
    nothing = np.zeros((), handle.dtype)

    def look(after: jax.Array) -> np.ndarray:  # JAX keeps this function, and with it everything it refers to
        del after
        if phase is None:
            clock.begin()
        else:
            clock.lap(phase)
        return nothing

    return handle + jax.lax.cond(looks, lambda: io_callback(look, nothing, after[0]), lambda: jnp.asarray(nothing))
