"""What a run counts as it goes; a checkpoint keeps it beside the arrays."""

import collections
import dataclasses
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from jaxpg.validation import STRICT, LargeNonNegativeInt, NonNegativeFloat, NonNegativeInt

WINDOW_EPISODES = 100

_Window = Annotated[
    collections.deque[float],
    Field(max_length=WINDOW_EPISODES),
    AfterValidator(lambda returns: collections.deque(returns, maxlen=WINDOW_EPISODES)),
]


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
    last_returns: _Window = dataclasses.field(default_factory=lambda: collections.deque(maxlen=WINDOW_EPISODES))

    @property
    def return_mean_100(self) -> float | None:
        """Mean return of the last 100 games, of fewer at the start."""
        return sum(self.last_returns) / len(self.last_returns) if self.last_returns else None

    def forget_returns(self) -> None:
        """Begins what is told of returns anew, because they would no longer be alike."""
        self.last_returns.clear()

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "last_returns": list(self.last_returns)}
