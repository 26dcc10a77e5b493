"""Decides which policy plays in which lane: always the same population, or candidates that take turns."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.types import Population

IDLE = -1
"""Stands for a candidate's id where no candidate plays in the lane."""


class Players(Protocol):
    """Tells a rollout which policy plays in each of its N lanes."""

    population: Population
    """Weights of the policies that play now. Every leaf has the leading axis P, which divides N."""
    playing: np.ndarray
    """Candidate in each lane, ``i64[N]``, or ``IDLE``."""

    @property
    def finished(self) -> bool:
        """Whether no candidate plays in any lane, now or later."""

    def is_playing(self, lanes: slice) -> bool:
        """Whether a candidate plays in any of these lanes."""

    def take_next(self, lanes: np.ndarray) -> None:
        """Gives the next candidate to each of these lanes (``i64[K]``), whose episodes ended."""


class FixedPopulation:
    """The same P members play in the same lanes for ever. All their episodes count for candidate 0.

    Args:
      population: the members' weights; every leaf has the leading axis P, which divides N.
      num_lanes: N.
    """

    finished = False

    def __init__(self, population: Population, num_lanes: int):
        self.population = population
        self.playing = np.zeros(num_lanes, np.int64)

    def is_playing(self, lanes: slice) -> bool:
        return True

    def take_next(self, lanes: np.ndarray) -> None:
        pass


class QueueSnapshot(NamedTuple):
    """The state of a queue. The lanes form groups of equal size, and each group has its own episodes to play."""

    playing: np.ndarray  # i64[N], candidate in each lane
    waiting: tuple[np.ndarray, ...]  # per group i64[J], candidates whose episodes have not begun, in playing order
    is_one: bool  # whether one candidate plays all episodes, including those that are over

    def is_of(self, games: np.ndarray) -> bool:
        """Whether the unfinished episodes are exactly ``games``: a candidate's id for each, in any order."""
        unfinished = np.concatenate([self.playing[self.playing != IDLE], *self.waiting])
        return np.array_equal(np.sort(unfinished), np.sort(games))

    def split(self, num_parts: int) -> list["QueueSnapshot"]:
        """Splits the queue for several devices, each of which gets an equal share of the lanes and groups, in order."""
        lanes, groups = len(self.playing) // num_parts, len(self.waiting) // num_parts
        return [
            QueueSnapshot(
                self.playing[i * lanes : (i + 1) * lanes], self.waiting[i * groups : (i + 1) * groups], self.is_one
            )
            for i in range(num_parts)
        ]


def beginning(games: np.ndarray, num_lanes: int, num_groups: int) -> QueueSnapshot:
    """A queue before its first episode. Group ``g`` of ``G`` plays the entries ``g``, ``g + G``, ``g + 2 G``, ...

    Args:
      games: the episodes to play, in this order: ``i64[J]``, the candidate's id for each. An id may occur many times.
      num_lanes: N.
      num_groups: G, a divisor of N.
    """
    waiting = tuple(games[group::num_groups] for group in range(num_groups))
    return QueueSnapshot(np.full(num_lanes, IDLE), waiting, is_one=np.unique(games).size <= 1)


def joined(snapshots: Sequence[QueueSnapshot]) -> QueueSnapshot:
    """Joins the queues of all devices into one; the inverse of ``QueueSnapshot.split``."""
    return QueueSnapshot(
        np.concatenate([snapshot.playing for snapshot in snapshots]),
        tuple(games for snapshot in snapshots for games in snapshot.waiting),
        snapshots[0].is_one,
    )


class CandidateQueue:
    """Episodes to play, one candidate for each, and the weights of the candidates that play now.

    Episodes differ in length by a factor of ten, so no lane waits for another. A lane whose episode ends takes the
    next episode of its group at that same step; the lane goes idle only when its group has none left. Every episode
    that was begun counts, short or long. Memory holds the weights of at most N candidates (member n plays in lane n),
    however many take turns. Where one candidate plays all episodes, that candidate is the only member (P = 1).

    Args:
      snapshot: the state in which the queue begins.
      ask: ``ids i32[1] -> population`` with the weights of that one candidate, on a leading axis of length 1.
    """

    def __init__(self, snapshot: QueueSnapshot, ask: Callable[[jax.Array], Population]):
        num_lanes = len(snapshot.playing)
        self._ask = ask
        self._is_one = snapshot.is_one
        self._waiting, self._begun = snapshot.waiting, [0] * len(snapshot.waiting)
        self._lanes_per_group = num_lanes // len(snapshot.waiting)
        self.playing = np.full(num_lanes, IDLE, np.int64)
        """Candidate in each lane, ``i64[N]``."""
        if self._is_one:
            candidate = np.concatenate([snapshot.playing, *snapshot.waiting]).max(initial=0)
            self.population = ask(jnp.array([candidate], jnp.int32))
        else:
            one = jax.eval_shape(ask, jax.ShapeDtypeStruct((1,), jnp.int32))
            self.population = jax.tree.map(lambda x: jnp.zeros((num_lanes, *x.shape[1:]), x.dtype), one)
        for lane, candidate in enumerate(snapshot.playing.tolist()):
            self._give(lane, candidate)
        self.take_next(np.flatnonzero(self.playing == IDLE))

    def snapshot(self) -> QueueSnapshot:
        """The state of the queue, from which another queue can go on."""
        left = (games[begun:] for games, begun in zip(self._waiting, self._begun, strict=True))
        return QueueSnapshot(self.playing.copy(), tuple(left), self._is_one)

    @property
    def finished(self) -> bool:
        """Whether every episode has been played to its end."""
        return bool((self.playing == IDLE).all())  # no lane is idle while episodes of its group wait

    def is_playing(self, lanes: slice) -> bool:
        """Whether a candidate plays in any of these lanes."""
        return bool((self.playing[lanes] != IDLE).any())

    def take_next(self, lanes: np.ndarray) -> None:
        """Gives the next episode of its group to each of these lanes (``i64[K]``), whose episodes ended."""
        for lane in lanes.tolist():
            group = lane // self._lanes_per_group
            begun, games = self._begun[group], self._waiting[group]
            self._begun[group] += begun < len(games)
            self._give(lane, int(games[begun]) if begun < len(games) else IDLE)

    def _give(self, lane: int, candidate: int) -> None:
        before, self.playing[lane] = self.playing[lane], candidate
        if candidate not in (before, IDLE) and not self._is_one:
            weights = self._ask(jnp.array([candidate], jnp.int32))
            self.population = _set_member(self.population, weights, np.int32(lane))


@partial(jax.jit, donate_argnames="population")
def _set_member(population: Population, one: Population, member: jax.Array) -> Population:
    return jax.tree.map(lambda whole, part: whole.at[member].set(part[0]), population, one)
