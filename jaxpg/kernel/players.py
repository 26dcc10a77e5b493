"""Who plays in which lane: always the same population, or candidates that take turns."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.types import Population

IDLE = -1
"""In place of a candidate's id: nobody plays in this lane."""


class Players(Protocol):
    """Who plays in each of N lanes."""

    population: Population
    """The weights of those who play now, every leaf led by P, a divisor of N."""
    playing: np.ndarray
    """Candidate in each lane, ``i64[N]``, or ``IDLE``."""

    @property
    def finished(self) -> bool:
        """Whether nobody will play any more."""

    def is_playing(self, lanes: slice) -> bool:
        """Whether somebody plays in any of these lanes."""

    def take_next(self, lanes: np.ndarray) -> None:
        """Told of the lanes, ``i64[K]``, whose episodes ended, to give each the next candidate."""


class FixedPopulation:
    """The same P members in the same lanes for ever; all their episodes count as candidate 0's.

    Args:
      population: their weights, every leaf led by P, a divisor of N.
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
    """Where a queue stands: lanes in groups of equal size, each group with games of its own."""

    playing: np.ndarray  # i64[N], candidate in each lane
    waiting: tuple[np.ndarray, ...]  # i64[J] of each group, candidates whose games have not begun, in their order
    is_one: bool  # whether all games, those already played among them, are one candidate's

    def is_of(self, games: np.ndarray) -> bool:
        """Whether just these games (candidates' ids, in any order) are not over yet."""
        unfinished = np.concatenate([self.playing[self.playing != IDLE], *self.waiting])
        return np.array_equal(np.sort(unfinished), np.sort(games))

    def split(self, num_parts: int) -> list["QueueSnapshot"]:
        """The same for each of several devices, which share the lanes and the groups in their order."""
        lanes, groups = len(self.playing) // num_parts, len(self.waiting) // num_parts
        return [
            QueueSnapshot(
                self.playing[i * lanes : (i + 1) * lanes], self.waiting[i * groups : (i + 1) * groups], self.is_one
            )
            for i in range(num_parts)
        ]


def beginning(games: np.ndarray, num_lanes: int, num_groups: int) -> QueueSnapshot:
    """A queue of which nothing has been played: group ``g`` of ``G`` has the games ``g``, ``g + G``, ``g + 2 G``, ...

    Args:
      games: ids of the candidates whose games are to be played, ``i64[J]``, in this order; one id may
        stand there many times.
      num_lanes: N.
      num_groups: G, a divisor of N.
    """
    waiting = tuple(games[group::num_groups] for group in range(num_groups))
    return QueueSnapshot(np.full(num_lanes, IDLE), waiting, is_one=np.unique(games).size <= 1)


def joined(snapshots: Sequence[QueueSnapshot]) -> QueueSnapshot:
    """One of all devices' queues, of which ``split`` makes these again."""
    return QueueSnapshot(
        np.concatenate([snapshot.playing for snapshot in snapshots]),
        tuple(games for snapshot in snapshots for games in snapshot.waiting),
        snapshots[0].is_one,
    )


class CandidateQueue:
    """Games that are to be played, each by a candidate, and the weights of those who play now.

    Games differ in length tenfold, so that no lane waits for another: one whose game ended takes the next
    game of its group at that very step, and only when none is left it goes idle. Every game that was begun counts,
    short or long. Memory holds the weights of N candidates (member n plays in lane n), however many take turns;
    where all games are of one candidate, it is the only member (P = 1).

    Args:
      snapshot: where the queue stands.
      ask: ``i32[1]`` ids -> the weights of these candidates, leaves led by 1.
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
        left = (games[begun:] for games, begun in zip(self._waiting, self._begun, strict=True))
        return QueueSnapshot(self.playing.copy(), tuple(left), self._is_one)

    @property
    def finished(self) -> bool:
        """Whether every game has been played to its end."""
        return bool((self.playing == IDLE).all())  # which no lane is while games of its group wait

    def is_playing(self, lanes: slice) -> bool:
        """Whether somebody plays in any of these lanes."""
        return bool((self.playing[lanes] != IDLE).any())

    def take_next(self, lanes: np.ndarray) -> None:
        """Gives each of these lanes, whose games ended, the next game of its group."""
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
