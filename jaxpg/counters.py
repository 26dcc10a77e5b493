"""What a run counts as it goes; a checkpoint keeps it beside the arrays."""

import collections
import dataclasses
from typing import Any


@dataclasses.dataclass
class Progress:
    """Where a run stands besides its arrays: the metadata of a checkpoint."""

    iteration: int = 0
    agent_steps: int = 0
    """Agent steps over all lanes, autoreset steps included."""
    episodes: int = 0
    wall_seconds: float = 0.0
    """Seconds of training, over all the processes that worked on the run."""
    segment: int = 0
    """How often the emulators were seeded anew."""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    """The newest value of each of the learner's metrics."""
    last_returns: collections.deque[float] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=100))

    @property
    def return_mean_100(self) -> float | None:
        """Mean return of the last 100 games, of fewer at the start."""
        return sum(self.last_returns) / len(self.last_returns) if self.last_returns else None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "last_returns": list(self.last_returns)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Progress":
        return cls(**{**data, "last_returns": collections.deque(data["last_returns"], maxlen=100)})
