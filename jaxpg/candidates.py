"""Which candidate plays in which lane: a queue of games, from which a lane takes the next when its game ends."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.types import Population

IDLE = -1
"""In place of a candidate's id: nobody plays in this lane."""


class QueueSnapshot(NamedTuple):
    """Where a queue stands."""

    playing: np.ndarray  # i64[N], candidate in each lane
    waiting: np.ndarray  # i64[J], candidates whose games have not begun
    is_one: bool  # whether all games, those already played among them, are one candidate's

    def is_of(self, games: np.ndarray) -> bool:
        """Whether just these games (candidates' ids, in any order) are not over yet."""
        unfinished = np.concatenate([self.playing[self.playing != IDLE], self.waiting])
        return np.array_equal(np.sort(unfinished), np.sort(games))


class CandidateQueue:
    """Games that are to be played, each by a candidate, and the weights of those who play now.

    Games differ in length tenfold, so that no lane waits for another: one whose game ended takes the next
    game at that very step, and only when none is left it goes idle. Every game that was begun counts, short
    or long. Memory holds the weights of N candidates (member n plays in lane n), however many take turns;
    where all games are of one candidate, it is the only member (P = 1).

    Args:
      games: ids of the candidates whose games are to be played, ``i64[J]``, in this order; one id may
        stand there many times.
      num_lanes: N.
      ask: ``i32[1]`` ids -> the weights of these candidates, leaves led by 1.
    """

    def __init__(self, games: np.ndarray, num_lanes: int, ask: Callable[[jax.Array], Population]):
        self._ask = ask
        self._set(QueueSnapshot(np.full(num_lanes, IDLE), games, is_one=np.unique(games).size <= 1))
        self.take_next(np.arange(num_lanes))

    @classmethod
    def at(cls, snapshot: QueueSnapshot, ask: Callable[[jax.Array], Population]) -> "CandidateQueue":
        """The queue as it was when ``snapshot`` was taken, by the same ``ask``."""
        queue = cls(np.zeros(0, np.int64), len(snapshot.playing), ask)
        queue._set(snapshot)
        return queue

    def _set(self, snapshot: QueueSnapshot) -> None:
        num_lanes, candidates = len(snapshot.playing), np.concatenate([snapshot.playing, snapshot.waiting])
        self._games, self._begun = snapshot.waiting, 0
        self._is_one = snapshot.is_one
        self.playing = np.full(num_lanes, IDLE, np.int64)
        """Candidate in each lane, ``i64[N]``."""
        if self._is_one:
            self.population = self._ask(jnp.array([candidates.max(initial=0)], jnp.int32))
        else:
            one = jax.eval_shape(self._ask, jax.ShapeDtypeStruct((1,), jnp.int32))
            self.population = jax.tree.map(lambda x: jnp.zeros((num_lanes, *x.shape[1:]), x.dtype), one)
        for lane, candidate in enumerate(snapshot.playing.tolist()):
            self._give(lane, candidate)

    def snapshot(self) -> QueueSnapshot:
        return QueueSnapshot(self.playing.copy(), self._games[self._begun :], self._is_one)

    @property
    def finished(self) -> bool:
        """Whether every game has been played to its end."""
        return self._begun == len(self._games) and bool((self.playing == IDLE).all())

    def is_playing(self, first_lane: int, num_lanes: int) -> bool:
        """Whether somebody plays in any of these lanes."""
        return bool((self.playing[first_lane : first_lane + num_lanes] != IDLE).any())

    def take_next(self, lanes: np.ndarray) -> None:
        """Gives each of these lanes, whose games ended, the next game of the queue."""
        for lane in lanes.tolist():
            if self._begun < len(self._games):
                self._give(lane, int(self._games[self._begun]))
                self._begun += 1
            else:
                self._give(lane, IDLE)

    def _give(self, lane: int, candidate: int) -> None:
        before, self.playing[lane] = self.playing[lane], candidate
        if candidate not in (before, IDLE) and not self._is_one:
            weights = self._ask(jnp.array([candidate], jnp.int32))
            self.population = _set_member(self.population, weights, np.int32(lane))


@partial(jax.jit, donate_argnames="population")
def _set_member(population: Population, one: Population, member: jax.Array) -> Population:
    return jax.tree.map(lambda whole, part: whole.at[member].set(part[0]), population, one)
