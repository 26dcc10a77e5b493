"""What a tracker must be able to do, and the pieces of a run that it gets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxpg.run.writers import Record


class Iteration(NamedTuple):
    """One iteration of a run."""

    record: Record
    """The line of ``metrics.jsonl``."""
    returns: list[float]
    """Returns of the episodes that ended in the iteration."""
    lengths_agent_steps: list[float]

    @property
    def agent_steps(self) -> int:
        """Agent steps of the run after the iteration."""
        return int(self.record["agent_steps"] or 0)

    @property
    def metrics(self) -> dict[str, float]:
        """The record's numbers, and the mean return and length of the episodes where there are any."""
        there = {name: value for name, value in self.record.items() if value is not None}
        for name, values in (("return", self.returns), ("length_agent_steps", self.lengths_agent_steps)):
            if values:
                there[f"episode/{name}_mean"] = sum(values) / len(values)
        return there


class TrackedRun(Protocol):
    """A run as a tracker shows it. Every method may raise any error; the process then ends and is tried again later."""

    run_id: str
    """What the tracker calls the run. It is kept in the run folder."""
    is_new: bool
    """Whether the tracker has nothing of the run yet."""
    last_agent_steps: int
    """Agent steps of the newest iteration that the tracker has; -1 where it has none."""

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Shows the settings, by key such as ``run.seed``. Called first of all, and again when some have changed."""

    def log(self, iterations: Sequence[Iteration]) -> None:
        """Adds iterations to the curves. The horizontal axis is agent steps."""

    def add_evaluation(self, scores: Mapping[str, float], agent_steps: int) -> None:
        """Shows the scores of an evaluation, by name such as ``evaluation/mean``.

        Args:
          scores: the scores.
          agent_steps: agent steps of the run when its policy was that of the evaluation.
        """

    def add_video(self, path: Path, agent_steps: int) -> None:
        """Shows a video of the policy at ``agent_steps``."""

    def add_page(self, path: Path, agent_steps: int) -> None:
        """Shows the report, one HTML file, as it was at ``agent_steps``."""

    def finish(self, ended: str | None) -> None:
        """Returns when the tracker has everything.

        Args:
          ended: why the run ended; None where it was killed, and while it goes on.
        """
