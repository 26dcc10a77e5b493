"""The kernel: the loop that steps emulators with the actions of one jitted ``act`` for a whole population.

REINFORCE plays a population of one (P = 1). Evolution and random search play a queue of candidates, one member in each
lane. All learners share one loop, and two things vary in it:

- *Who plays next* is decided by an object: ``FixedPopulation`` or ``CandidateQueue``.
- *How the agent steps are played* is decided by a function that plays T rows and fills the tape.
  ``Rollout._play_on_host`` sends and receives from Python. This function works on every JAX backend, and emulation
  overlaps with the device's work. ``Rollout._play_compiled`` plays the same rows as one compiled program
  (``compiled_rollout.py``), for emulators that compiled code can call. ``Rollout._play_in_jax`` plays them as one
  program that also steps the environments, which are written in JAX (``jax_rollout.py``).

Everything around the loop (noise, outcomes, episodes, the record for a replay, the bootstrap) is the same for all.
"""

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxpg.core.errors import FaultError, first_line
from jaxpg.core.types import (
    Answers,
    CompilableEnv,
    Experience,
    InJax,
    PolicyFunctions,
    Tape,
    TimeStep,
    VectorEnv,
)
from jaxpg.kernel.act import gumbel_noise, make_act
from jaxpg.kernel.clock import Clock, Seconds
from jaxpg.kernel.compiled_rollout import CompiledRollout
from jaxpg.kernel.jax_rollout import JaxRollout, SavedLanes
from jaxpg.kernel.outcomes import EpisodeCounter, Outcomes
from jaxpg.kernel.players import FixedPopulation, Players
from jaxpg.machine.console import say
from jaxpg.policies.observations import Observation, encoded_shape

LANES_WORTH_A_WORD = 128
"""With at least this many lanes, a reset says that it starts emulators. An Atari emulator takes a tenth of a second of
one core to start, and meanwhile EnvPool lets no other thread report progress."""
FROM_PYTHON = "rollouts stepped from Python"
NOT_SENT = 255
"""Stands for an action in the record where the lane's pool was at rest."""

AGENT_STEPS_PER_LOOK = 64
"""Agent steps of one rollout where no setting of the learner determines that number."""


class Rollout:
    """N lanes in which a population plays rollout after rollout; episodes continue from one rollout to the next.

    Args:
      pools: the emulators of all lanes. With several pools, one pool is emulated while the actions of another are
        computed.
      policy: the policy's pure functions.
      observation: what the policy sees.
      keeps_tape: whether rollouts keep a tape for the learner.
      greedy: whether lanes take the most probable action instead of a sampled one.
      device: the device that computes actions and holds the tape; None for JAX's first device.
      first_lane: number of this rollout's first lane among all lanes of the run.
      compiles: whether a rollout of a fixed population runs as one compiled program on the CPU. This needs a tape and
        a single pool of emulators that compiled code can call.
    """

    def __init__(
        self,
        pools: Sequence[VectorEnv],
        policy: PolicyFunctions,
        observation: Observation,
        *,
        keeps_tape: bool = True,
        greedy: bool = False,
        device: jax.Device | None = None,
        first_lane: int = 0,
        compiles: bool = False,
    ):
        self.pools = pools
        self.first_lane = first_lane
        self.greedy = greedy
        self.num_lanes = sum(pool.num_lanes for pool in pools)
        self.device = device
        ends = np.cumsum([pool.num_lanes for pool in pools]).tolist()
        self._lanes = [slice(end - pool.num_lanes, end) for pool, end in zip(pools, ends, strict=True)]
        self._keeps_tape = keeps_tape
        self._bootstraps = keeps_tape and policy.has_value
        self.encoded = encoded_shape(observation, pools[0].spec)
        self.act = make_act(policy, observation, pools[0].spec.axes, self.num_lanes)
        compilable = [pool for pool in pools if isinstance(pool, CompilableEnv)]
        self._compiles = compiles and keeps_tape and len(pools) == len(compilable) == 1
        self._program: CompiledRollout | None = None  # made by the first compiled rollout after a reset
        (in_jax,) = pools if len(pools) == 1 and isinstance(pools[0], InJax) else (None,)
        self._in_jax = JaxRollout(self.act, in_jax) if isinstance(in_jax, InJax) and keeps_tape else None
        self._newest: list[TimeStep] = []  # each pool's newest answer; empty until the first one after a reset
        self._counter = EpisodeCounter(self.num_lanes)
        self._tape: Tape | None = None
        self._record: list[np.ndarray] = []
        self.waiting_since: float | None = None
        """Monotonic time since which the rollout waits for its emulators; None while it does not wait."""

    @property
    def path(self) -> str:
        """How rollouts of a fixed population are played: words for the first line of a run."""
        if self._in_jax:
            return "rollouts in JAX"
        return "compiled rollouts" if self._compiles else FROM_PYTHON

    def reset(self, seeds: np.ndarray) -> None:
        """Restarts every lane's emulator with its own seed (``int64[N]``) and drops the unfinished episodes."""
        self.drop_episodes()
        is_long = self.num_lanes >= LANES_WORTH_A_WORD and not self.pools[0].spec.in_jax
        for pool, lanes in zip(self.pools, self._lanes, strict=True):
            if is_long:
                there = f", {lanes.start} are there" if lanes.start else ""
                say(f"jaxpg: starting {self.num_lanes} emulators{there}")
            with jax.default_device(self.device):
                pool.reset(seeds[lanes])
            if isinstance(pool, InJax):  # bound to the device as after a rollout, or the second compiles anew
                pool.lanes = jax.device_put(pool.lanes, self.device)

    def drop_episodes(self) -> None:
        """Drops the unfinished episodes. The next call must be ``reset``."""
        self._program = None
        self._newest = []
        self._counter = EpisodeCounter(self.num_lanes)
        self._record = []

    @property
    def actions(self) -> np.ndarray:
        """Actions played since the reset, ``u8[K, N]``. With the seeds, they determine the emulators' state."""
        return np.concatenate([np.zeros((0, self.num_lanes), np.uint8), *self._record])

    @property
    def checksums(self) -> np.ndarray:
        """What each lane was seen to do, ``u32[N]``: its newest observation, and its episode's return and length.

        A lane that plays the same actions from the same seed has the same checksum, if its emulator is deterministic.
        """
        newest = [lane.tobytes() for step in self._newest for lane in step.observation]
        seen = newest or [b""] * self.num_lanes  # right after a reset nothing has been seen yet
        so_far = [numbers.tobytes() for numbers in self._counter.unfinished]
        return np.array([zlib.crc32(a, zlib.crc32(b)) for a, b in zip(seen, so_far, strict=True)], np.uint32)

    @property
    def agent_steps_since_reset(self) -> int:
        """Agent steps since the reset (K): the rows of ``actions``."""
        return sum(len(rows) for rows in self._record)

    @property
    def first_episodes_are_over(self) -> np.ndarray:
        """Whether each lane's first episode since the reset has ended, ``bool[N]``."""
        return self._counter.first_is_over

    def saved_lanes(self) -> SavedLanes:
        """Where the lanes of an environment in JAX are, for a checkpoint; every leaf has the leading axis N."""
        assert self._in_jax is not None, "only lanes in JAX can be saved"
        return self._in_jax.saved(self._counter)

    def restore_lanes(self, saved: SavedLanes) -> None:
        """Brings the lanes of an environment in JAX back to where they were; they have been reset before."""
        assert self._in_jax is not None, "only lanes in JAX can be saved"
        self._in_jax.restore(saved, self._counter)
        self._newest = []

    def replay(self, seeds: np.ndarray, actions: np.ndarray) -> Iterator[int]:
        """Brings the emulators back to the state after a reset with ``seeds`` and then ``actions``.

        Emulators cannot be saved and restored, but they are deterministic.

        Args:
          seeds: ``int64[N]``.
          actions: ``u8[K, N]``, an earlier value of the property ``actions``.

        Yields:
          Agent steps of all lanes since the last yield, so that the caller can show progress and stop.
        """
        self.reset(seeds)
        self._receive_first()
        nobody = np.zeros(self.num_lanes, np.int64)
        for row, chosen in enumerate(actions):
            # the pools of the saved run may differ from these; in a lane that was at rest, any action does
            sent = [i for i, lanes in enumerate(self._lanes) if (chosen[lanes] != NOT_SENT).any()]
            for i in sent:
                self.pools[i].send(np.where(chosen == NOT_SENT, 0, chosen)[self._lanes[i]])
            for i in sent:
                self._newest[i] = self._receive(i)
                self._counter.add(row, self._lanes[i], self._newest[i], nobody)
            yield self.num_lanes
        self._counter.take()  # these episodes were counted when they were first played
        self._record = [actions]

    def collect(self, players: Players, num_agent_steps: int, key: jax.Array) -> tuple[Experience, Seconds]:
        """Plays T agent steps in every lane, or fewer where a queue of candidates ends earlier.

        Args:
          players: who plays in which lane. A queue of candidates begins with the reset of the emulators.
          num_agent_steps: T.
          key: the actions' randomness.

        Returns:
          The experience, whose tape the next call overwrites, and the seconds spent in each phase.

        Raises:
          FaultError: an emulator failed.
        """
        with jax.default_device(self.device):
            clock = Clock()
            outcomes = Outcomes.blank(num_agent_steps, self.num_lanes)
            record = np.full((num_agent_steps, self.num_lanes), NOT_SENT, np.uint8)
            noise = None if self.greedy else self._noise(key, num_agent_steps)
            self._receive_first()
            clock.lap("emulate")
            is_fixed = isinstance(players, FixedPopulation)
            play = self._play_on_host
            if is_fixed and self._in_jax:
                play = self._play_in_jax
            elif is_fixed and self._compiles and num_agent_steps > 1:
                play = self._play_compiled
            tape, played = play(players, noise, self._take_tape(num_agent_steps), record, outcomes, clock)
            self._tape = self._bootstrap(players, noise, tape, played, clock)
        if play != self._play_in_jax:  # a checkpoint stores those lanes instead of their actions
            self._record.append(record[:played])
        episodes = self._counter.take()
        experience = Experience(
            tape=self._tape,
            reward=outcomes.reward[:played],
            terminated=outcomes.terminated[:played],
            truncated=outcomes.truncated[:played],
            life_lost=outcomes.life_lost[:played],
            acted=outcomes.acted[:played],
            episodes=episodes._replace(lane=self.first_lane + episodes.lane),
        )
        return experience, clock.seconds

    def counted(self, answers: Answers) -> Experience:
        """Counts T agent steps that a program of the caller's has played in all lanes; the experience has no tape."""
        self._counter.add_rows(answers)
        self._newest = []
        episodes = self._counter.take()
        return Experience(None, *answers, episodes._replace(lane=self.first_lane + episodes.lane))

    def close(self) -> None:
        """Ends the emulators' threads."""
        for pool in self.pools:
            pool.close()

    def _play_on_host(
        self,
        players: Players,
        noise: jax.Array | None,
        tape: Tape | None,
        record: np.ndarray,
        outcomes: Outcomes,
        clock: Clock,
    ) -> tuple[Tape | None, int]:
        """Acts, sends and receives row by row and pool by pool; returns the tape and how many rows were played."""
        in_flight: set[int] = set()
        played = 0
        while played < len(record) and not players.finished:
            for i, lanes in enumerate(self._lanes):
                if i in in_flight:
                    self._take_in(i, played - 1, self._receive(i), players, outcomes)
                    in_flight.remove(i)
                clock.lap("emulate")
                if not players.is_playing(lanes):
                    continue  # no candidate will play in this pool again
                actions, tape = self.act(
                    players.population, self._newest[i].observation, noise, tape, played, lanes.start
                )
                record[played, lanes] = chosen = np.asarray(actions)
                self.pools[i].send(chosen)
                in_flight.add(i)
                clock.lap("act")
            played += 1
        for i in sorted(in_flight):
            self._take_in(i, played - 1, self._receive(i), players, outcomes)
        clock.lap("emulate")
        return tape, played

    def _play_compiled(
        self,
        players: Players,
        noise: jax.Array | None,
        tape: Tape | None,
        record: np.ndarray,
        outcomes: Outcomes,
        clock: Clock,
    ) -> tuple[Tape | None, int]:
        """Plays all rows of the single pool as one compiled program; returns the tape and how many rows were played."""
        (pool,) = self.pools
        assert tape is not None, "compiled rollouts keep a tape"
        assert isinstance(pool, CompilableEnv)
        self._program = self._program or CompiledRollout(self.act, pool, self.device)
        clock.lap("emulate")
        tape, steps, sample = self._program(players.population, noise, tape, self._newest[0].observation, self.waiting)
        clock.lap_like(sample)
        record[:] = np.asarray(tape.action)[: len(record)]
        for row in range(len(record)):
            step = TimeStep(steps.observation, *(column[row] for column in steps[1:]))
            self._take_in(0, row, step, players, outcomes)
        return tape, len(record)

    def _play_in_jax(
        self,
        players: Players,
        noise: jax.Array | None,
        tape: Tape | None,
        record: np.ndarray,
        outcomes: Outcomes,
        clock: Clock,
    ) -> tuple[Tape | None, int]:
        """Plays all rows as one program that also steps the lanes. Returns the tape and how many rows were played."""
        assert self._in_jax is not None
        assert tape is not None, "rollouts in JAX keep a tape"
        tape, answers, self._newest = self._in_jax(players.population, noise, tape, self.waiting)
        outcomes.fill(answers)
        self._counter.add_rows(answers)
        clock.lap("act")  # the program both acts and steps
        return tape, len(record)

    def _bootstrap(
        self, players: Players, noise: jax.Array | None, tape: Tape | None, played: int, clock: Clock
    ) -> Tape | None:
        """Writes the row after the last agent step. Its values stand for later rewards; its actions are not played."""
        if self._bootstraps:
            for step, lanes in zip(self._newest, self._lanes, strict=True):
                _, tape = self.act(players.population, step.observation, noise, tape, played, lanes.start)
            clock.lap("act")
        return tape

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Surrounds each wait for the emulators; turns an emulator's RuntimeError into a FaultError."""
        self.waiting_since = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            raise FaultError(f"an emulator failed: {first_line(error)}") from error
        self.waiting_since = None

    def _receive_first(self) -> None:
        """Waits for each pool's first observations, once after a reset."""
        if not self._newest:
            self._newest = [self._receive(i) for i in range(len(self.pools))]

    def _receive(self, i: int) -> TimeStep:
        with self.waiting():
            return self.pools[i].recv()

    def _take_in(self, i: int, row: int, step: TimeStep, players: Players, outcomes: Outcomes) -> None:
        """Stores pool ``i``'s answer to the actions of ``row``; a lane whose episode ended gets the next candidate."""
        self._newest[i] = step
        outcomes.add(row, self._lanes[i], step, players.playing)
        ended = self._counter.add(row, self._lanes[i], step, players.playing)
        if ended.size:
            players.take_next(ended)

    def _noise(self, key: jax.Array, num_agent_steps: int) -> jax.Array:
        num_actions = self.pools[0].spec.num_actions
        return gumbel_noise(key, num_agent_steps + 1, self.num_lanes, num_actions, self.first_lane)

    def _take_tape(self, num_agent_steps: int) -> Tape | None:
        """Returns the last tape to be overwritten, or a blank tape; None where rollouts keep no tape."""
        tape, self._tape = self._tape, None
        if not self._keeps_tape:
            return None
        shape = (num_agent_steps + 1, self.num_lanes)
        if tape is not None and tape.action.shape == shape:
            return tape
        num_actions, encoded = self.pools[0].spec.num_actions, self.encoded

        def blank() -> Tape:
            return Tape(
                observation=jnp.zeros((*shape, *encoded.shape), encoded.dtype),
                action=jnp.zeros(shape, jnp.int32),
                logits=jnp.zeros((*shape, num_actions), jnp.float32),
                value=jnp.zeros(shape, jnp.float32),
            )

        return jax.jit(blank, out_shardings=self.device and SingleDeviceSharding(self.device))()
