"""One run of a suite: a training and then its evaluations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.scores.evaluation_file import Evaluation, read_evaluations
from jaxpg.scores.suite_file import SuiteRow, SuiteScore
from jaxpg.scores.suite_tables import ACTIONS
from jaxpg.suite.trained_folder import Point, Training
from jaxpg.suite.works import jaxpg_command

CURVE_POINTS = 120
"""Most points of a learning curve in the results."""


@dataclass(frozen=True)
class SuiteRun:
    """A run of the suite, which is trained, then evaluated with sampled and with greedy actions."""

    recipe: str
    """Name of the recipe in the results."""
    training: Training
    episodes: int
    checkpoint: str
    """``latest`` or ``best``."""

    @property
    def name(self) -> str:
        return self.training.folder.name

    @property
    def log(self) -> Path:
        return self.training.log

    def next_command(self) -> list[str] | None:
        """The training until it is over, then each evaluation that is missing."""
        if command := self.training.command():
            return command
        done = self.evaluations()
        for actions in ACTIONS if self.episodes else ():
            if actions not in done:
                words = ["--episodes", str(self.episodes), "--actions", actions, "--checkpoint", self.checkpoint]
                words += ["--seed", str(self._seed)]
                return jaxpg_command("evaluate", str(self.training.folder), *words, *self.training.imports)
        return None

    def evaluations(self) -> dict[str, Evaluation]:
        """The evaluations of the checkpoint in question, by how actions were chosen."""
        summary = self.training.summary()
        iteration = summary.get("iteration")
        if self.checkpoint == "best" and summary.get("best_iteration") is not None:
            iteration = summary["best_iteration"]
        try:
            found = read_evaluations(self.training.folder / "evaluation.json")
        except UserError:  # the next evaluation names the damaged file
            return {}
        asked = (iteration, self.episodes, self._seed)
        theirs = [one for one in found if not one.is_baseline]
        return {one.actions: one for one in theirs if (one.checkpoint, one.episodes, one.seed) == asked}

    @property
    def _seed(self) -> int:
        """The seed of the evaluation is the run's, so that the runs of a recipe do not play the same games."""
        return self.training.config.run.seed

    def row(self, failure: str | None) -> SuiteRow:
        """The run's row of the results.

        Args:
          failure: why the run failed; None where it did not.
        """
        summary: dict[str, Any] = self.training.summary()
        points = self.training.points()
        last = points[-1] if points else Point(0, 0.0, 0, None)
        scores = {
            actions: SuiteScore(mean=one.mean, human_normalized=one.human_normalized, episodes=one.episodes)
            for actions, one in self.evaluations().items()
        }
        config = self.training.config
        return SuiteRow(
            recipe=self.recipe,
            game=config.env.game,
            seed=config.run.seed,
            folder=self.name,
            failure=failure,
            ended=str(summary["ended"]) if "ended" in summary else None,
            agent_steps=int(last.agent_steps),
            seconds=float(last.wall_seconds),
            scores=scores,
            curve=curve_of(points),
        )


def curve_of(points: list[Point]) -> list[tuple[float, float]]:
    """The learning curve: agent steps and mean return of at most 120 iterations, evenly spaced, the last among them."""
    known = [(float(p.agent_steps), p.return_mean_100) for p in points if p.return_mean_100 is not None]
    if not known:
        return []
    chosen = np.unique(np.linspace(0, len(known) - 1, CURVE_POINTS).round().astype(int))
    return [known[i] for i in chosen]
