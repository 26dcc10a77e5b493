"""Records what the emulators answer during a rollout, and which episodes end in it."""

from typing import NamedTuple

import numpy as np

from jaxpg.core.types import Answers, Episodes, TimeStep
from jaxpg.kernel.players import IDLE


class Outcomes(NamedTuple):
    """The emulators' answers in one rollout, ``[T, N]`` each; the fields are those of ``Experience``."""

    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    life_lost: np.ndarray
    acted: np.ndarray

    @classmethod
    def blank(cls, num_agent_steps: int, num_lanes: int) -> "Outcomes":
        """Makes arrays of zeros for ``add`` to fill."""
        shape = (num_agent_steps, num_lanes)
        return cls(np.zeros(shape, np.float32), *(np.zeros(shape, bool) for _ in range(4)))

    def add(self, row: int, lanes: slice, step: TimeStep, playing: np.ndarray) -> None:
        """Stores the answers of ``lanes`` at agent step ``row``.

        Args:
          row: the agent step of the rollout.
          lanes: the lanes that answered.
          step: their answers.
          playing: candidate in each of all N lanes, or ``IDLE``; the answers of idle lanes get no weight.
        """
        self.reward[row, lanes] = step.reward
        self.terminated[row, lanes] = step.terminated
        self.truncated[row, lanes] = step.truncated
        self.life_lost[row, lanes] = step.life_lost
        self.acted[row, lanes] = step.acted & (playing[lanes] != IDLE)

    def fill(self, answers: Answers) -> None:
        """Stores the answers of all lanes at all agent steps, ``[T, N]`` each. A candidate plays in every lane."""
        for own, given in zip(self, answers, strict=True):
            own[:] = given


class EpisodeCounter:
    """Sums the return and length of each lane's episode, which may last for many rollouts."""

    def __init__(self, num_lanes: int):
        self._return = np.zeros(num_lanes, np.float64)
        self._length = np.zeros(num_lanes, np.int64)
        self._ended: list[Episodes] = []
        self.first_is_over = np.zeros(num_lanes, bool)
        """Whether each lane's first episode since the reset has ended."""

    def add(self, row: int, lanes: slice, step: TimeStep, playing: np.ndarray) -> np.ndarray:
        """Counts one agent step of ``lanes``; returns the lanes, ``i64[K]``, whose episode ended with that step."""
        self._return[lanes] += step.reward
        self._length[lanes] += step.acted
        ended = lanes.start + np.flatnonzero(step.terminated | step.truncated)
        if ended.size:
            counted = ended[playing[ended] != IDLE]
            rows = np.full(counted.size, row)
            self._ended.append(Episodes(rows, counted, playing[counted], self._return[counted], self._length[counted]))
            self._return[ended] = 0
            self._length[ended] = 0
            self.first_is_over[ended] = True
        return ended

    @property
    def unfinished(self) -> np.ndarray:
        """Return and length of each lane's unfinished episode, ``f64[N, 2]``."""
        return np.stack([self._return, self._length], axis=1)

    def add_rows(self, answers: Answers) -> None:
        """Counts T agent steps of all lanes, ``[T, N]`` each, in all of which candidate 0 plays."""
        returns = np.cumsum(answers.reward, axis=0, dtype=np.float64) + self._return
        lengths = np.cumsum(answers.acted, axis=0, dtype=np.int64) + self._length
        lane, row = np.nonzero((np.asarray(answers.terminated) | np.asarray(answers.truncated)).T)  # lane by lane
        follows = lane[1:] == lane[:-1]  # an episode that began in these T agent steps
        is_last = np.append(~follows, True)[: lane.size]
        sums = []
        for so_far, carried in ((returns, self._return), (lengths, self._length)):
            at_end = so_far[row, lane]
            before = np.zeros_like(at_end)
            before[1:] = np.where(follows, at_end[:-1], 0)
            sums.append(at_end - before)
            carried[:] = so_far[-1]
            carried[lane[is_last]] -= at_end[is_last]
        in_order = np.lexsort((lane, row))
        columns = (row, lane, np.zeros_like(lane), *sums)
        self._ended.append(Episodes(*(column[in_order] for column in columns)))
        self.first_is_over[lane] = True

    def saved(self) -> np.ndarray:
        """The unfinished episodes, ``u32[N, 5]``: return and length as bits, and whether the first episode is over."""
        numbers = np.stack([self._return.view(np.int64), self._length], axis=1)
        return np.concatenate([numbers.view(np.uint32), self.first_is_over[:, None].astype(np.uint32)], axis=1)

    def restore(self, saved: np.ndarray) -> None:
        """Continues with what ``saved`` returned."""
        numbers = np.ascontiguousarray(saved[:, :4]).view(np.int64)
        self._return, self._length = numbers[:, 0].copy().view(np.float64), numbers[:, 1].copy()
        self.first_is_over = saved[:, 4] != 0

    def take(self) -> Episodes:
        """Returns the episodes that ended since the last call."""
        none = Episodes(*(np.zeros(0, np.int64) for _ in Episodes._fields))
        episodes, self._ended = [none, *self._ended], []
        return Episodes(*(np.concatenate(columns) for columns in zip(*episodes, strict=True)))
