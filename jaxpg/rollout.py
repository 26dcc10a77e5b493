"""THE kernel: one jitted ``act`` for a whole population, and the loop that feeds it.

REINFORCE calls it with P = 1, evolution and random search with many members; there is no second
rollout code. The loop is plain Python around jitted pieces: it runs on every JAX backend, can be
interrupted, and lets emulation in C++ threads overlap with the device's work.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.losses import log_prob_of
from jaxpg.observations import Observation, encoded_shape
from jaxpg.types import Episodes, Experience, PolicyFunctions, Population, Tape, TimeStep, VectorEnv

AGENT_STEPS_PER_LOOK = 64
"""Agent steps between two looks at whether all games are finished."""


class Seconds(NamedTuple):
    """Wall-clock seconds of one rollout by phase."""

    emulate: float  # waiting for emulators
    act: float  # choosing actions, uploads and fetches included


def make_act(
    policy: PolicyFunctions, observation: Observation, axes: tuple[int, ...], num_members: int, *, greedy: bool
) -> Callable[..., tuple[jax.Array, Tape | None]]:
    """Builds the jitted ``act(population, raw, key, tape, row, first_lane) -> (actions i32[n], tape)``.

    It acts for ``n`` lanes, a whole number for each of ``num_members`` members (P): ``raw`` is
    ``[n, ...]`` as the emulator gives it, and lane ``first_lane + i`` is the i-th. Each lane draws from its
    own key, a function of ``key``, the row and the lane's number alone, so that a lane acts the same
    beside any other lanes. ``tape`` (donated; None keeps nothing) gets its row ``row`` written for these lanes.
    """

    def act_one(params: Population, raw: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        encoded = observation.encode(jnp.transpose(raw, axes))
        logits, value = policy.apply(params, observation.decode(encoded))
        action = jnp.argmax(logits) if greedy else jax.random.categorical(key, logits)
        return encoded, action.astype(jnp.int32), log_prob_of(logits, action), value

    act_members = jax.vmap(jax.vmap(act_one, in_axes=(None, 0, 0)))

    @partial(jax.jit, donate_argnames="tape")
    def act(
        population: Population, raw: jax.Array, key: jax.Array, tape: Tape | None, row: int, first_lane: int
    ) -> tuple[jax.Array, Tape | None]:
        lanes = first_lane + jnp.arange(raw.shape[0])
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, row)))(lanes)
        by_member = partial(jax.tree.map, lambda x: x.reshape(num_members, -1, *x.shape[1:]))
        results = act_members(population, by_member(raw), by_member(keys))
        flat = Tape(*(x.reshape(-1, *x.shape[2:]) for x in results))
        if tape is not None:
            tape = jax.tree.map(
                lambda whole, part: jax.lax.dynamic_update_slice(
                    whole, part[None], (row, first_lane, *(0,) * (part.ndim - 1))
                ),
                tape,
                flat,
            )
        return flat.action, tape

    return act


class _Games:
    """Counts each lane's game as it goes on, and notes the games that ended."""

    def __init__(self, num_lanes: int):
        self._return = np.zeros(num_lanes, np.float64)
        self._length = np.zeros(num_lanes, np.int64)
        self._ended: list[tuple[np.ndarray, ...]] = []

    def add(self, row: int, first_lane: int, step: TimeStep) -> None:
        lanes = slice(first_lane, first_lane + len(step.reward))
        self._return[lanes] += step.reward
        self._length[lanes] += step.acted
        ended = first_lane + np.flatnonzero(step.terminated | step.truncated)
        if ended.size:
            self._ended.append((np.full(ended.size, row), ended, self._return[ended], self._length[ended]))
            self._return[ended] = 0
            self._length[ended] = 0

    def collect(self) -> Episodes:
        columns = [np.concatenate(c) for c in zip(*self._ended, strict=True)] if self._ended else [np.zeros(0, int)] * 4
        self._ended = []
        return Episodes(*columns)


class _Outcomes:
    """What the emulators answered in one rollout, agent step by agent step: ``[T, N]`` each."""

    def __init__(self, num_agent_steps: int, num_lanes: int):
        shape = (num_agent_steps, num_lanes)
        self.reward = np.zeros(shape, np.float32)
        self.terminated, self.truncated, self.life_lost, self.acted = (np.zeros(shape, bool) for _ in range(4))

    def add(self, row: int, first_lane: int, step: TimeStep) -> None:
        lanes = slice(first_lane, first_lane + len(step.reward))
        self.reward[row, lanes] = step.reward
        self.terminated[row, lanes] = step.terminated
        self.truncated[row, lanes] = step.truncated
        self.life_lost[row, lanes] = step.life_lost
        self.acted[row, lanes] = step.acted


class Rollout:
    """N lanes that a population plays in, rollout after rollout, without stopping between them.

    Args:
      pools: the emulators, one or more groups of lanes. With two, one group is emulated while the
        other's actions are computed.
      policy: the policy's pure functions.
      observation: what the policy sees.
      num_members: P; divides every pool's number of lanes.
      keeps_tape: whether observations are kept for the learner.
      greedy: whether the most probable action is taken instead of a sampled one.
    """

    def __init__(
        self,
        pools: Sequence[VectorEnv],
        policy: PolicyFunctions,
        observation: Observation,
        *,
        num_members: int = 1,
        keeps_tape: bool = True,
        greedy: bool = False,
    ):
        self.pools = pools
        self.num_lanes = sum(pool.num_lanes for pool in pools)
        self._first_lanes = [sum(pool.num_lanes for pool in pools[:i]) for i in range(len(pools))]
        self._keeps_tape = keeps_tape
        self._bootstraps = keeps_tape and policy.has_value
        self._encoded = encoded_shape(observation, pools[0].spec)
        self._act = make_act(policy, observation, pools[0].spec.axes, num_members, greedy=greedy)
        self._current: list[TimeStep | None] = [None] * len(pools)  # None while a pool is in flight
        self._games = _Games(self.num_lanes)
        self._tape: Tape | None = None

    def reset(self, seeds: np.ndarray) -> None:
        """Starts every lane's emulator anew with its own seed (``int64[N]``); unfinished games are dropped."""
        for pool, first in zip(self.pools, self._first_lanes, strict=True):
            pool.reset(seeds[first : first + pool.num_lanes])
        self._current = [None] * len(self.pools)
        self._games = _Games(self.num_lanes)

    def collect(self, population: Population, num_agent_steps: int, key: jax.Array) -> tuple[Experience, Seconds]:
        """Plays ``num_agent_steps`` (T) agent steps in every lane.

        Args:
          population: the policies' weights, every leaf led by P.
          num_agent_steps: T.
          key: consumed; the actions' randomness.

        Returns:
          The experience, whose tape the next call overwrites, and where the time went.
        """
        outcomes = _Outcomes(num_agent_steps, self.num_lanes)
        tape, self._tape = self._take_tape(num_agent_steps), None
        clock = _Clock()
        for row in range(num_agent_steps):
            for i, pool in enumerate(self.pools):
                step = self._observe(i, row - 1, outcomes)
                clock.lap("emulate")
                actions, tape = self._act(population, step.observation, key, tape, row, self._first_lanes[i])
                pool.send(np.asarray(actions))
                self._current[i] = None
                clock.lap("act")
        for i in range(len(self.pools)):
            step = self._observe(i, num_agent_steps - 1, outcomes)
            clock.lap("emulate")
            if self._bootstraps:  # the actions are thrown away: the next rollout's policy will choose
                _, tape = self._act(population, step.observation, key, tape, num_agent_steps, self._first_lanes[i])
                clock.lap("act")
        self._tape = tape
        experience = Experience(
            tape=tape,
            reward=outcomes.reward,
            terminated=outcomes.terminated,
            truncated=outcomes.truncated,
            life_lost=outcomes.life_lost,
            acted=outcomes.acted,
            episodes=self._games.collect(),
        )
        return experience, Seconds(**clock.seconds)

    def close(self) -> None:
        """Ends the emulators' threads."""
        for pool in self.pools:
            pool.close()

    def _observe(self, i: int, row: int, outcomes: _Outcomes) -> TimeStep:
        """The newest observation of pool ``i``; what came with it answers the actions of ``row``."""
        step = self._current[i]
        if step is None:
            step = self._current[i] = self.pools[i].recv()
            if row >= 0:
                outcomes.add(row, self._first_lanes[i], step)
                self._games.add(row, self._first_lanes[i], step)
        return step

    def _take_tape(self, num_agent_steps: int) -> Tape | None:
        if not self._keeps_tape:
            return None
        shape = (num_agent_steps + 1, self.num_lanes)
        if self._tape is not None and self._tape.action.shape == shape:
            return self._tape
        return Tape(
            observation=jnp.zeros((*shape, *self._encoded.shape), self._encoded.dtype),
            action=jnp.zeros(shape, jnp.int32),
            log_prob=jnp.zeros(shape, jnp.float32),
            value=jnp.zeros(shape, jnp.float32),
        )


def play_games(rollout: Rollout, population: Population, games_per_lane: int, key: jax.Array) -> Episodes:
    """Plays until every lane has finished its number of whole games, and returns exactly those.

    A fixed number of games a lane does not favour short games, as the first K to end would.

    Args:
      rollout: freshly reset, without a tape.
      population: the policies' weights, every leaf led by P.
      games_per_lane: how many of each lane's first games count.
      key: consumed.
    """
    wanted = np.full(rollout.num_lanes, games_per_lane)
    kept: list[Episodes] = []
    chunk = 0
    while wanted.any():
        experience, _ = rollout.collect(population, AGENT_STEPS_PER_LOOK, jax.random.fold_in(key, chunk))
        episodes = experience.episodes
        counts = np.zeros(len(episodes.lane), bool)
        for i, lane in enumerate(episodes.lane):
            counts[i] = wanted[lane] > 0
            wanted[lane] -= counts[i]
        kept.append(
            Episodes(*(column[counts] for column in episodes))._replace(
                step=episodes.step[counts] + chunk * AGENT_STEPS_PER_LOOK
            )
        )
        chunk += 1
    return Episodes(*(np.concatenate(columns) for columns in zip(*kept, strict=True)))


class _Clock:
    """Adds up the time between laps by name."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(Seconds._fields, 0.0)
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now
