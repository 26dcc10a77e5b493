"""Counters and statistics of a run, which every iteration updates and every checkpoint stores."""

import collections
import dataclasses
import math
import statistics
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from jaxpg.core.validation import STRICT, LargeNonNegativeInt, NonNegativeFloat, NonNegativeInt

WINDOW_EPISODES = 100

_OF_WINDOW = (
    Field(max_length=WINDOW_EPISODES),
    AfterValidator(lambda numbers: collections.deque(numbers, maxlen=WINDOW_EPISODES)),
)
_Returns = Annotated[collections.deque[float], *_OF_WINDOW]
_Lengths = Annotated[collections.deque[LargeNonNegativeInt], *_OF_WINDOW]


def _window() -> collections.deque[Any]:
    return collections.deque(maxlen=WINDOW_EPISODES)


@dataclasses.dataclass
class RunProgress:
    """How far a run is, and its newest statistics."""

    __pydantic_config__ = STRICT

    iteration: NonNegativeInt = 0
    agent_steps: LargeNonNegativeInt = 0
    """Agent steps of all lanes, including autoreset steps."""
    episodes: LargeNonNegativeInt = 0
    wall_seconds: NonNegativeFloat = 0.0
    """Seconds of training, summed over the run's interruptions and resumptions."""
    segment: NonNegativeInt = 0
    """Number of the current segment: how often the emulators were restarted with new seeds."""
    metrics: dict[str, int | float] = dataclasses.field(default_factory=dict)
    """The newest value of each of the learner's metrics."""
    last_returns: _Returns = dataclasses.field(default_factory=_window)
    """Returns of the last 100 finished episodes."""
    last_lengths: _Lengths = dataclasses.field(default_factory=_window)
    """Agent steps of the last 100 finished episodes."""
    best_iteration: NonNegativeInt | None = None
    """Iteration of the checkpoint with the highest score so far; None where no checkpoint has a score yet."""
    best_score: float | None = None
    """Score of the checkpoint of ``best_iteration``."""

    @property
    def return_mean_100(self) -> float | None:
        """Mean return of the last 100 episodes, or of all episodes while there are fewer; None before the first."""
        return _mean(self.last_returns)

    @property
    def length_mean_100(self) -> float | None:
        """Mean agent steps of the same episodes; None before the first episode has ended."""
        return _mean(self.last_lengths)

    def score(self, metric: str) -> float | None:
        """How good the policy is, for choosing the best checkpoint; None where too few episodes were played to say.

        Args:
          metric: name of the learner's metric that is the score. Where it is empty, the score is the mean return of
            the last 100 episodes, and None while there are fewer.
        """
        if metric:
            return self.metrics.get(metric)
        return self.return_mean_100 if len(self.last_returns) == WINDOW_EPISODES else None

    def note_best(self, metric: str) -> None:
        """Notes the current iteration as the best checkpoint if no earlier checkpoint has a score as high."""
        score = self.score(metric)
        if score is not None and (self.best_score is None or score > self.best_score):
            self.best_iteration, self.best_score = self.iteration, score

    def is_notably_best(self, metric: str) -> bool:
        """Whether the score beats the best checkpoint's by more than the standard error of the last 100 returns' mean.

        Where no checkpoint has a score yet, any score does.
        """
        score = self.score(metric)
        if score is None or self.best_score is None or score <= self.best_score:
            return score is not None and self.best_score is None
        return score > self.best_score + statistics.pstdev(self.last_returns) / math.sqrt(len(self.last_returns))

    def forget_returns(self) -> None:
        """Clears the statistics of returns and the best checkpoint.

        A resumed run calls this when its configuration changes what a return means.
        """
        self.last_returns.clear()
        self.last_lengths.clear()
        self.metrics.clear()
        self.best_iteration = self.best_score = None

    def to_json(self) -> dict[str, Any]:
        """Converts the progress into lists and numbers that JSON can hold."""
        return {**vars(self), "last_returns": list(self.last_returns), "last_lengths": list(self.last_lengths)}


def _mean(numbers: collections.deque[Any]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
