"""The rollouts of one process, one for each of its devices, side by side."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from jaxpg.core.types import Experience
from jaxpg.kernel.clock import Seconds
from jaxpg.kernel.players import Players
from jaxpg.kernel.rollout import NOT_SENT, Rollout


class Fleet:
    """All lanes of this process, in groups of equal size that each have a device.

    Each group plays in a thread of its own: most of its time it waits for emulators or its device.

    Args:
      rollouts: one for each device, in the order of their lanes.
    """

    def __init__(self, rollouts: Sequence[Rollout]):
        self.rollouts = tuple(rollouts)
        self.num_lanes = sum(rollout.num_lanes for rollout in rollouts)
        self._threads = ThreadPoolExecutor(len(rollouts)) if len(rollouts) > 1 else None

    @property
    def waiting_since(self) -> float | None:
        """Since when, by the monotonic clock, an answer of any emulators is waited for; None while it is not."""
        return min((since for rollout in self.rollouts if (since := rollout.waiting_since) is not None), default=None)

    def reset(self, seeds: np.ndarray) -> None:
        """Starts every lane's emulator anew with its own seed (``int64[N]``); unfinished games are dropped."""
        for rollout, own in zip(self.rollouts, self._split(seeds), strict=True):
            rollout.reset(own)

    def drop_episodes(self) -> None:
        """Drops the unfinished games; the next thing is a reset."""
        for rollout in self.rollouts:
            rollout.drop_episodes()

    @property
    def actions(self) -> np.ndarray:
        """What was played since the reset, ``u8[K, N]``; where a group has come to rest before, ``NOT_SENT``."""
        return side_by_side([rollout.actions for rollout in self.rollouts])

    @property
    def agent_steps_since_reset(self) -> int:
        """Agent steps since the reset in the lanes that played longest (K)."""
        return max(rollout.agent_steps_since_reset for rollout in self.rollouts)

    @property
    def first_episodes_are_over(self) -> np.ndarray:
        """Whether the game with which each lane began after the reset has ended, ``bool[N]``."""
        return np.concatenate([rollout.first_episodes_are_over for rollout in self.rollouts])

    def replay(self, seeds: np.ndarray, actions: np.ndarray) -> Iterator[int]:
        """Brings the emulators to where ``actions`` (``u8[K, N]``) were played since a reset with ``seeds``.

        Yields:
          How many agent steps of all lanes were played since it last did, so that one can watch and stop it.
        """
        parts = zip(self.rollouts, self._split(seeds), self._split(actions.T), strict=True)
        for steps in zip(*(rollout.replay(own_seeds, own.T) for rollout, own_seeds, own in parts), strict=True):
            yield sum(steps)

    def collect(
        self, players: Sequence[Players], num_agent_steps: int, key: jax.Array
    ) -> tuple[list[Experience], Seconds]:
        """Each group's experience, with ``players`` of its own on its device, and where the slowest one's time went."""

        def play(rollout: Rollout, own: Players) -> tuple[Experience, Seconds]:
            return rollout.collect(own, num_agent_steps, key)

        over: Callable[..., Iterator[tuple[Experience, Seconds]]] = self._threads.map if self._threads else map
        experiences, seconds = zip(*over(play, self.rollouts, players), strict=True)
        return list(experiences), max(seconds, key=sum)

    def close(self) -> None:
        """Ends the emulators' threads."""
        if self._threads:
            self._threads.shutdown()
        for rollout in self.rollouts:
            rollout.close()

    def _split(self, by_lane: np.ndarray) -> list[np.ndarray]:
        return np.split(by_lane, len(self.rollouts))


def side_by_side(actions: Sequence[np.ndarray]) -> np.ndarray:
    """The actions of groups of lanes, each ``u8[K_i, N_i]``, as ``u8[K, N]``; the shorter ones end in ``NOT_SENT``."""
    longest = max(len(rows) for rows in actions)
    filled = [np.pad(rows, ((0, longest - len(rows)), (0, 0)), constant_values=NOT_SENT) for rows in actions]
    return np.concatenate(filled, axis=1)
