"""Runs the rollouts of one process side by side, one on each of its devices."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from jaxpg.core.types import Experience
from jaxpg.kernel.clock import Seconds
from jaxpg.kernel.jax_rollout import SavedLanes
from jaxpg.kernel.players import Players
from jaxpg.kernel.rollout import NOT_SENT, Rollout


class Fleet:
    """All lanes of this process, divided evenly among its devices.

    Each device's rollout plays in its own thread, because it spends most of its time waiting for emulators or for the
    device.

    Args:
      rollouts: one for each device, in the order of their lanes.
    """

    def __init__(self, rollouts: Sequence[Rollout]):
        self.rollouts = tuple(rollouts)
        self.num_lanes = sum(rollout.num_lanes for rollout in rollouts)
        self._threads = ThreadPoolExecutor(len(rollouts)) if len(rollouts) > 1 else None

    @property
    def waiting_since(self) -> float | None:
        """Monotonic time since which the longest-waiting rollout waits for its emulators; None while none waits."""
        return min((since for rollout in self.rollouts if (since := rollout.waiting_since) is not None), default=None)

    def reset(self, seeds: np.ndarray) -> None:
        """Restarts every lane's emulator with its own seed (``int64[N]``) and drops the unfinished episodes."""
        for rollout, own in zip(self.rollouts, self._split(seeds), strict=True):
            rollout.reset(own)

    def drop_episodes(self) -> None:
        """Drops the unfinished episodes. The next call must be ``reset``."""
        for rollout in self.rollouts:
            rollout.drop_episodes()

    @property
    def actions(self) -> np.ndarray:
        """Actions played since the reset, ``u8[K, N]``; ``NOT_SENT`` where a device's lanes came to rest earlier."""
        return side_by_side([rollout.actions for rollout in self.rollouts])

    @property
    def checksums(self) -> np.ndarray:
        """What each lane was seen to do, ``u32[N]``; see ``Rollout.checksums``."""
        return np.concatenate([rollout.checksums for rollout in self.rollouts])

    @property
    def agent_steps_since_reset(self) -> int:
        """Agent steps since the reset of the lanes that played longest (K)."""
        return max(rollout.agent_steps_since_reset for rollout in self.rollouts)

    @property
    def first_episodes_are_over(self) -> np.ndarray:
        """Whether each lane's first episode since the reset has ended, ``bool[N]``."""
        return np.concatenate([rollout.first_episodes_are_over for rollout in self.rollouts])

    @property
    def is_in_jax(self) -> bool:
        """Whether the environments are written in JAX."""
        return self.rollouts[0].pools[0].spec.in_jax

    def saved_lanes(self) -> list[SavedLanes]:
        """Where the lanes of each device are, for environments in JAX."""
        return [rollout.saved_lanes() for rollout in self.rollouts]

    def restore_lanes(self, saved: Sequence[SavedLanes]) -> None:
        """Brings the lanes of each device, which have been reset, back to where they were."""
        for rollout, own in zip(self.rollouts, saved, strict=True):
            rollout.restore_lanes(own)

    def replay(self, seeds: np.ndarray, actions: np.ndarray) -> Iterator[int]:
        """Brings the emulators back to the state after a reset with ``seeds`` and ``actions`` (``u8[K, N]``).

        Yields:
          Agent steps of all lanes since the last yield, so that the caller can show progress and stop.
        """
        parts = zip(self.rollouts, self._split(seeds), self._split(actions.T), strict=True)
        for steps in zip(*(rollout.replay(own_seeds, own.T) for rollout, own_seeds, own in parts), strict=True):
            yield sum(steps)

    def collect(
        self, players: Sequence[Players], num_agent_steps: int, key: jax.Array
    ) -> tuple[list[Experience], Seconds]:
        """Collects one rollout on every device; see ``Rollout.collect``.

        Args:
          players: who plays in each device's lanes, in the order of the devices.
          num_agent_steps: T.
          key: the actions' randomness.

        Returns:
          The experience of each device, and where the time of the slowest device went.
        """

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
    """Joins records of actions, ``u8[K_i, N_i]`` each, into one ``u8[K, N]``; pads shorter ones with ``NOT_SENT``."""
    longest = max(len(rows) for rows in actions)
    filled = [np.pad(rows, ((0, longest - len(rows)), (0, 0)), constant_values=NOT_SENT) for rows in actions]
    return np.concatenate(filled, axis=1)
