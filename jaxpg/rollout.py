"""THE kernel: the loop that feeds one jitted ``act`` for a whole population.

REINFORCE calls it with P = 1; evolution and random search with a queue of candidates, one member a lane.
The loop is plain Python around jitted pieces: it runs on every JAX backend, can be interrupted, and lets emulation in
C++ threads overlap with the device's work. Where emulators can be called from a compiled program, a rollout of one
policy is one (``program.py``); around it all is the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.act import gumbel_noise, make_act
from jaxpg.activations import Activations
from jaxpg.candidates import IDLE, CandidateQueue, beginning
from jaxpg.clock import Clock, Seconds
from jaxpg.console import say
from jaxpg.errors import FaultError, first_line
from jaxpg.observations import Observation, encoded_shape
from jaxpg.program import Program
from jaxpg.types import (
    CompilableEnv,
    Episodes,
    Experience,
    Params,
    PolicyFunctions,
    Population,
    Tape,
    TimeStep,
    VectorEnv,
)

LANES_WORTH_A_WORD = 128
"""An emulator of Atari takes a tenth of a second of one core to start, and EnvPool lets no other thread speak then."""
NOT_SENT = 255
"""In place of an action in the record of a pool that was at rest."""

AGENT_STEPS_PER_LOOK = 64
"""Agent steps that games are played for at a time where nothing else asks for a pause."""


class _Games:
    """Counts each lane's game as it goes on, and notes the games that ended."""

    def __init__(self, num_lanes: int):
        self._return = np.zeros(num_lanes, np.float64)
        self._length = np.zeros(num_lanes, np.int64)
        self._ended: list[Episodes] = []

    def add(self, row: int, first_lane: int, step: TimeStep, playing: np.ndarray) -> np.ndarray:
        """Takes one agent step; ``playing`` is each lane's candidate. Returns the lanes whose game ended."""
        lanes = slice(first_lane, first_lane + len(step.reward))
        self._return[lanes] += step.reward
        self._length[lanes] += step.acted
        ended = first_lane + np.flatnonzero(step.terminated | step.truncated)
        if ended.size:
            counts = ended[playing[ended] != IDLE]
            rows = np.full(counts.size, row)
            self._ended.append(Episodes(rows, counts, playing[counts], self._return[counts], self._length[counts]))
            self._return[ended] = 0
            self._length[ended] = 0
        return ended

    def collect(self) -> Episodes:
        none = Episodes(*(np.zeros(0, np.int64) for _ in Episodes._fields))
        games, self._ended = [none, *self._ended], []
        return Episodes(*(np.concatenate(columns) for columns in zip(*games, strict=True)))


class _Outcomes:
    """What the emulators answered in one rollout, agent step by agent step: ``[T, N]`` each."""

    def __init__(self, num_agent_steps: int, num_lanes: int):
        shape = (num_agent_steps, num_lanes)
        self.reward = np.zeros(shape, np.float32)
        self.terminated, self.truncated, self.life_lost, self.acted = (np.zeros(shape, bool) for _ in range(4))

    def add(self, row: int, first_lane: int, step: TimeStep, playing: np.ndarray) -> None:
        lanes = slice(first_lane, first_lane + len(step.reward))
        self.reward[row, lanes] = step.reward
        self.terminated[row, lanes] = step.terminated
        self.truncated[row, lanes] = step.truncated
        self.life_lost[row, lanes] = step.life_lost
        self.acted[row, lanes] = step.acted & (playing[lanes] != IDLE)


class Rollout:
    """N lanes that a population plays in, rollout after rollout, without stopping between them.

    Args:
      pools: the emulators, one or more groups of lanes. With two, one group is emulated while the
        other's actions are computed.
      policy: the policy's pure functions.
      observation: what the policy sees.
      keeps_tape: whether observations are kept for the learner.
      greedy: whether the most probable action is taken instead of a sampled one.
      device: where actions are computed and the tape is kept; None for the first one.
      first_lane: number of the first of these lanes among all lanes of the run.
      activations: given where the learner goes on from what acting computed; for a population of one.
      compiles: whether a rollout is played as one program for the CPU, where the emulators allow it; only with a
        tape and without ``activations``, which learning reads row by row.
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
        activations: Activations | None = None,
        compiles: bool = False,
    ):
        self.pools = pools
        self.first_lane = first_lane
        self._device = device
        self.num_lanes = sum(pool.num_lanes for pool in pools)
        self._first_lanes = [sum(pool.num_lanes for pool in pools[:i]) for i in range(len(pools))]
        self.greedy = greedy
        self._keeps_tape = keeps_tape
        self._bootstraps = keeps_tape and policy.has_value
        self._encoded = encoded_shape(observation, pools[0].spec)
        self._keeps_activations = activations is not None
        self._act = make_act(policy, observation, pools[0].spec.axes, self.num_lanes, activations)
        only_pool = pools[0] if len(pools) == 1 else None
        compiles = compiles and keeps_tape and activations is None
        self._compilable = only_pool if compiles and isinstance(only_pool, CompilableEnv) else None
        self._program: Program | None = None  # of the emulators since their reset
        self._current: list[TimeStep | None] = [None] * len(pools)  # None while a pool is in flight
        self._games = _Games(self.num_lanes)
        self._one_candidate = np.zeros(self.num_lanes, np.int64)  # who plays in each lane without a queue
        self._tape: Tape | None = None
        self._record: list[np.ndarray] = []
        self.waiting_since: float | None = None
        """Since when, by the monotonic clock, an answer of the emulators is waited for; None while it is not."""

    def reset(self, seeds: np.ndarray) -> None:
        """Starts every lane's emulator anew with its own seed (``int64[N]``); unfinished games are dropped."""
        self.end_games()
        is_long = self.num_lanes >= LANES_WORTH_A_WORD
        for pool, first in zip(self.pools, self._first_lanes, strict=True):
            if is_long:
                say(f"jaxpg: starting {self.num_lanes} emulators" + (f", {first} are there" if first else ""))
            pool.reset(seeds[first : first + pool.num_lanes])

    def end_games(self) -> None:
        """Drops the unfinished games; the next thing is a reset."""
        self._program = None
        self._current = [None] * len(self.pools)
        self._games = _Games(self.num_lanes)
        self._record = []

    @property
    def actions(self) -> np.ndarray:
        """What was played since the reset, ``u8[K, N]``: with the seeds, all that the emulators' state depends on."""
        return np.concatenate([np.zeros((0, self.num_lanes), np.uint8), *self._record])

    @property
    def agent_steps_of_games(self) -> int:
        """Agent steps of each lane since the reset (K)."""
        return sum(len(rows) for rows in self._record)

    def replay(self, seeds: np.ndarray, actions: np.ndarray) -> Iterator[int]:
        """Brings the emulators to where ``actions`` were played since a reset with ``seeds``.

        Emulators cannot be saved and restored, but they are deterministic.

        Args:
          seeds: ``int64[N]``.
          actions: ``u8[K, N]``, as the property of that name gave them.

        Yields:
          How many agent steps of all lanes were played since it last did, so that one can watch and stop it.
        """
        self.reset(seeds)
        for i, pool in enumerate(self.pools):
            self._current[i] = self._receive(pool)
        for row, chosen in enumerate(actions):
            playing = [i for i, first in enumerate(self._first_lanes) if chosen[first] != NOT_SENT]
            for i in playing:
                self.pools[i].send(chosen[self._lanes(i)])
            for i in playing:
                self._current[i] = step = self._receive(self.pools[i])
                self._games.add(row, self._first_lanes[i], step, self._one_candidate)
            yield self.num_lanes
        self._games.collect()  # they were counted when they were played
        self._record = [actions]

    def collect(
        self, players: Population | CandidateQueue, num_agent_steps: int, key: jax.Array
    ) -> tuple[Experience, Seconds]:
        """Plays ``num_agent_steps`` (T) agent steps in every lane, fewer where a queue ends before.

        Args:
          players: the policies' weights, every leaf led by P (a divisor of N), all of whose games count, as
            candidate 0's; or a queue of candidates that take turns, freshly begun with the emulators.
          num_agent_steps: T.
          key: consumed; the actions' randomness.

        Returns:
          The experience, whose tape the next call overwrites, and where the time went.
        """
        with jax.default_device(self._device):
            return self._collect(players, num_agent_steps, key)

    def _collect(
        self, players: Population | CandidateQueue, num_agent_steps: int, key: jax.Array
    ) -> tuple[Experience, Seconds]:
        outcomes = _Outcomes(num_agent_steps, self.num_lanes)
        record = np.full((num_agent_steps, self.num_lanes), NOT_SENT, np.uint8)
        tape, self._tape = self._take_tape(num_agent_steps), None
        queue = players if isinstance(players, CandidateQueue) else None
        kept: list[list[tuple[jax.Array, ...]]] = []
        clock = Clock()
        noise = None
        if not self.greedy:
            num_actions = self.pools[0].spec.num_actions
            noise = gumbel_noise(key, num_agent_steps + 1, self.num_lanes, num_actions, self.first_lane)
        played = 0
        if self._compilable and queue is None and tape is not None and num_agent_steps > 1:
            tape = self._play_program(self._compilable, players, noise, tape, outcomes, clock)
            record[:], played = np.asarray(tape.action)[:num_agent_steps], num_agent_steps
        while played < num_agent_steps and not (queue and queue.finished):
            kept.append([])
            for i, pool in enumerate(self.pools):
                step = self._observe(i, played - 1, outcomes, queue)
                clock.lap("emulate")
                if queue and not queue.is_playing(self._first_lanes[i], pool.num_lanes):
                    continue  # no game will begin here any more
                population = queue.population if queue else players  # a queue's changes as games end
                actions, tape, now_kept = self._act(
                    population, step.observation, noise, tape, played, self._first_lanes[i]
                )
                kept[-1].append(now_kept)
                record[played, self._lanes(i)] = chosen = np.asarray(actions)
                pool.send(chosen)
                self._current[i] = None
                clock.lap("act")
            played += 1
        for i in range(len(self.pools)):
            step = self._observe(i, played - 1, outcomes, queue)
            clock.lap("emulate")
            if self._bootstraps:  # the actions are thrown away: the next rollout's policy will choose
                population = queue.population if queue else players
                _, tape, _ = self._act(population, step.observation, noise, tape, played, self._first_lanes[i])
                clock.lap("act")
        self._tape = tape
        self._record.append(record[:played])
        episodes = self._games.collect()
        experience = Experience(
            tape=tape,
            reward=outcomes.reward[:played],
            terminated=outcomes.terminated[:played],
            truncated=outcomes.truncated[:played],
            life_lost=outcomes.life_lost[:played],
            acted=outcomes.acted[:played],
            episodes=episodes._replace(lane=self.first_lane + episodes.lane),
            kept=kept if self._keeps_activations else None,
        )
        return experience, clock.seconds

    def close(self) -> None:
        """Ends the emulators' threads."""
        for pool in self.pools:
            pool.close()

    def _play_program(
        self,
        pool: CompilableEnv,
        population: Population,
        noise: jax.Array | None,
        tape: Tape,
        outcomes: _Outcomes,
        clock: Clock,
    ) -> Tape:
        """Plays a rollout of the only pool as one program."""
        observation = self._observe(0, -1, outcomes, None).observation
        self._program = self._program or Program(self._act, pool)
        clock.lap("emulate")
        tape, steps, sample = self._program(population, noise, tape, observation, self._waiting)
        clock.lap_like(sample)
        for row in range(len(steps.reward)):
            step = TimeStep(steps.observation, *(column[row] for column in steps[1:]))
            self._take_in(0, row, step, outcomes, None)
        return tape

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """For the emulators, whose faults become a sentence."""
        self.waiting_since = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            raise FaultError(f"an emulator failed: {first_line(error)}") from error
        self.waiting_since = None

    def _receive(self, pool: VectorEnv) -> TimeStep:
        with self._waiting():
            return pool.recv()

    def _lanes(self, i: int) -> slice:
        return slice(self._first_lanes[i], self._first_lanes[i] + self.pools[i].num_lanes)

    def _observe(self, i: int, row: int, outcomes: _Outcomes, queue: CandidateQueue | None) -> TimeStep:
        """The newest observation of pool ``i``; what came with it answers the actions of ``row``."""
        step = self._current[i]
        if step is None:
            step = self._receive(self.pools[i])
            self._take_in(i, row, step, outcomes, queue)
        return step

    def _take_in(self, i: int, row: int, step: TimeStep, outcomes: _Outcomes, queue: CandidateQueue | None) -> None:
        """What pool ``i`` answered to the actions of ``row``; -1 where it is what games begin with."""
        self._current[i] = step
        if row < 0:
            return
        playing = queue.playing if queue else self._one_candidate
        outcomes.add(row, self._first_lanes[i], step, playing)
        ended = self._games.add(row, self._first_lanes[i], step, playing)
        if queue and ended.size:
            queue.take_next(ended)

    def _take_tape(self, num_agent_steps: int) -> Tape | None:
        if not self._keeps_tape:
            return None
        shape = (num_agent_steps + 1, self.num_lanes)
        if self._tape is not None and self._tape.action.shape == shape:
            return self._tape
        zeros = partial(jnp.zeros, device=self._device)
        return Tape(
            observation=zeros((*shape, *self._encoded.shape), self._encoded.dtype),
            action=zeros(shape, jnp.int32),
            logits=zeros((*shape, self.pools[0].spec.num_actions), jnp.float32),
            value=zeros(shape, jnp.float32),
        )


def play_games(
    rollout: Rollout, params: Params, num_games: int, key: jax.Array, ended: Callable[[int], None] = lambda count: None
) -> Episodes:
    """Plays a number of whole games with one policy and returns exactly those.

    Every game that was begun counts. The first K to end would not do: they are the short ones.

    Args:
      rollout: freshly reset, without a tape.
      params: the policy's weights.
      num_games: K.
      key: consumed.
      ended: told now and then how many more games have ended.
    """
    games = beginning(np.zeros(num_games, np.int64), rollout.num_lanes, num_groups=1)
    queue = CandidateQueue(games, lambda ids: jax.tree.map(lambda x: x[None], params))
    played: list[Episodes] = []
    while not queue.finished:
        part_key = jax.random.fold_in(key, len(played))
        experience, _ = rollout.collect(queue, AGENT_STEPS_PER_LOOK, part_key)
        episodes = experience.episodes
        played.append(episodes._replace(step=episodes.step + len(played) * AGENT_STEPS_PER_LOOK))
        ended(episodes.lane.size)
    return Episodes(*(np.concatenate(columns) for columns in zip(*played, strict=True)))
