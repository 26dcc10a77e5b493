"""Which candidate plays in which lane: a queue of games, from which a lane takes the next when its game ends."""

import collections
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.types import Population

IDLE = -1
"""In place of a candidate's id: nobody plays in this lane."""


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
        self._waiting = collections.deque(games.tolist())
        self._ask = ask
        self._is_one = len(set(self._waiting)) <= 1
        self.playing = np.full(num_lanes, IDLE, np.int64)
        """Candidate in each lane, ``i64[N]``."""
        if self._is_one:
            self.population = ask(jnp.array([self._waiting[0] if self._waiting else 0], jnp.int32))
        else:
            one = jax.eval_shape(ask, jax.ShapeDtypeStruct((1,), jnp.int32))
            self.population = jax.tree.map(lambda x: jnp.zeros((num_lanes, *x.shape[1:]), x.dtype), one)
        self.take_next(np.arange(num_lanes))

    @property
    def finished(self) -> bool:
        """Whether every game has been played to its end."""
        return not self._waiting and bool((self.playing == IDLE).all())

    def is_playing(self, first_lane: int, num_lanes: int) -> bool:
        """Whether somebody plays in any of these lanes."""
        return bool((self.playing[first_lane : first_lane + num_lanes] != IDLE).any())

    def take_next(self, lanes: np.ndarray) -> None:
        """Gives each of these lanes, whose games ended, the next game of the queue."""
        for lane in lanes.tolist():
            before = self.playing[lane]
            self.playing[lane] = candidate = self._waiting.popleft() if self._waiting else IDLE
            if candidate not in (before, IDLE) and not self._is_one:
                weights = self._ask(jnp.array([candidate], jnp.int32))
                self.population = _set_member(self.population, weights, np.int32(lane))


@partial(jax.jit, donate_argnames="population")
def _set_member(population: Population, one: Population, member: jax.Array) -> Population:
    return jax.tree.map(lambda whole, part: whole.at[member].set(part[0]), population, one)
