"""Finds out which of the played games are identical, and which of them the time limit cut."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpg.core.types import Episodes, TimeStep, VectorEnv

ODD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio. Multiplying by an odd number loses no bits and spreads each bit upwards."""
HALF = np.uint64(32)


class Game(NamedTuple):
    """Notes about one game that was played to its end."""

    fingerprint: int
    """Hash of the first observation and of every action and reward. Identical games have the same fingerprint."""
    cut: bool
    """Whether the time limit ended the game."""


class Fingerprinted:
    """Wraps the emulators of a pool and notes every game that ends in one of their lanes.

    Args:
      pool: the emulators.
    """

    def __init__(self, pool: VectorEnv):
        self._pool = pool
        self.num_lanes, self.spec = pool.num_lanes, pool.spec
        self._state = np.zeros(pool.num_lanes, np.uint64)
        self._sent = np.zeros(pool.num_lanes, np.uint64)
        self.games: list[list[Game]] = [[] for _ in range(pool.num_lanes)]
        """The games that have ended in each lane since the reset, in their order."""

    def reset(self, seeds: np.ndarray) -> None:
        self._pool.reset(seeds)
        self.games = [[] for _ in range(self.num_lanes)]

    def send(self, actions: np.ndarray) -> None:
        self._sent = np.asarray(actions).astype(np.uint64)
        self._pool.send(actions)

    def recv(self) -> TimeStep:
        step = self._pool.recv()
        moves = self._sent << HALF | np.ascontiguousarray(step.reward, np.float32).view(np.uint32)
        mixed = (self._state ^ moves) * ODD
        self._state = np.where(step.acted, mixed ^ mixed >> HALF, self._state)
        for lane in np.flatnonzero(~step.acted):
            self._state[lane] = zlib.crc32(np.ascontiguousarray(step.observation[lane]).data)
        for lane in np.flatnonzero(step.acted & (step.terminated | step.truncated)):
            self.games[lane].append(Game(int(self._state[lane]), bool(step.truncated[lane])))
        return step

    def close(self) -> None:
        self._pool.close()


def games_of(episodes: Episodes, pools: Sequence[Fingerprinted]) -> list[Game]:
    """Returns the notes about ``episodes``, in the order of ``episodes``.

    Args:
      episodes: the first episodes that ended in each lane, in their order.
      pools: the emulators that played them.
    """
    lanes = [iter(games) for pool in pools for games in pool.games]
    return [next(lanes[lane]) for lane in episodes.lane.tolist()]
