"""What a run counts as it goes; a checkpoint keeps it beside the arrays."""

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
class Progress:
    """Where a run stands besides its arrays: the metadata of a checkpoint."""

    __pydantic_config__ = STRICT

    iteration: NonNegativeInt = 0
    agent_steps: LargeNonNegativeInt = 0
    """Agent steps over all lanes, autoreset steps included."""
    episodes: LargeNonNegativeInt = 0
    wall_seconds: NonNegativeFloat = 0.0
    """Seconds of training, over all the processes that worked on the run."""
    segment: NonNegativeInt = 0
    """How often the emulators were seeded anew."""
    metrics: dict[str, int | float] = dataclasses.field(default_factory=dict)
    """The newest value of each of the learner's metrics."""
    last_returns: _Returns = dataclasses.field(default_factory=_window)
    last_lengths: _Lengths = dataclasses.field(default_factory=_window)
    """Agent steps of these games."""
    best_iteration: NonNegativeInt | None = None
    """The save with the highest score, which is kept until a better one is there; None where none had a score."""
    best_score: float | None = None

    @property
    def return_mean_100(self) -> float | None:
        """Mean return of the last 100 games, of fewer at the start."""
        return _mean(self.last_returns)

    @property
    def length_mean_100(self) -> float | None:
        """Mean agent steps of these games."""
        return _mean(self.last_lengths)

    def score(self, metric: str) -> float | None:
        """How good the policy is, to choose the best save by; None where too little was played to say.

        Args:
          metric: the learner's own score; where it is empty, the mean return of a full window of games is the score.
        """
        if metric:
            return self.metrics.get(metric)
        return self.return_mean_100 if len(self.last_returns) == WINDOW_EPISODES else None

    def note_best(self, metric: str) -> None:
        """Takes the state that is being saved for the best one where no save had as high a score."""
        score = self.score(metric)
        if score is not None and (self.best_score is None or score > self.best_score):
            self.best_iteration, self.best_score = self.iteration, score

    def is_notably_best(self, metric: str) -> bool:
        """Whether the score is higher than at any save, by more than a standard error of a mean over the last games."""
        score = self.score(metric)
        if score is None or self.best_score is None or score <= self.best_score:
            return score is not None and self.best_score is None
        return score > self.best_score + statistics.pstdev(self.last_returns) / math.sqrt(len(self.last_returns))

    def forget_returns(self) -> None:
        """Begins the statistics of returns anew, because older returns would mean something else."""
        self.last_returns.clear()
        self.last_lengths.clear()
        self.metrics.clear()
        self.best_iteration = self.best_score = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "last_returns": list(self.last_returns), "last_lengths": list(self.last_lengths)}


def _mean(numbers: collections.deque[Any]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
