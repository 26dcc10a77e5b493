"""What makes one choice of settings better than another: the score of a seed, and the value of all seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxpg.suite.trained_folder import Point

Score = Literal["last", "final", "area", "steps"]
OverSeeds = Literal["mean", "worst", "median"]
LAST = 0.25
"""Share of the budget that the score ``last`` is averaged over."""
GRID = 100
"""Number of points along the budget at which returns are averaged."""
GAMES = 100
"""How many games a mean needs before it counts as reaching the target."""
WORDS = {
    "last": "mean return over the last quarter of the budget",
    "final": "mean return of the last 100 games at the end",
    "area": "mean return over the whole budget",
    "steps": "agent steps to the target, negative",
}


@dataclass(frozen=True)
class Goal:
    """How runs are rated. A run that ended early, because it reached its target, keeps its last mean return."""

    score: Score
    over_seeds: OverSeeds
    budget_agent_steps: int
    target: float | None = None
    """Mean return of 100 games that the score ``steps`` waits for."""

    def in_words(self, seeds: Sequence[int]) -> str:
        """Says what the value of a trial is."""
        target = f" {self.target:g}" if self.score == "steps" else ""
        return f"{self.over_seeds} over seeds {', '.join(map(str, seeds))} of: {WORDS[self.score]}{target}"

    def score_of(self, points: Sequence[Point]) -> float | None:
        """The score of one seed's run. None where no game ended.

        Args:
          points: the iterations of the run, which is over.
        """
        budget = self.budget_agent_steps
        match self.score:
            case "steps":
                return -self._agent_steps_to_target(points)
            case "final":
                return points[-1].return_mean_100 if points else None
            case "last":
                return _mean_return(points, (1 - LAST) * budget, budget)
            case "area":
                return _mean_return(points, 0, budget)

    def value_of(self, scores: Sequence[float]) -> float:
        """The value of all seeds' scores; the larger the better."""
        match self.over_seeds:
            case "mean":
                return statistics.fmean(scores)
            case "median":
                return statistics.median(scores)
            case "worst":
                return min(scores)

    def _agent_steps_to_target(self, points: Sequence[Point]) -> float:
        """Agent steps after which 100 games average the target; twice the budget for a run that never reached it."""
        assert self.target is not None, "the score needs a target"
        for point in points:
            if point.episodes >= GAMES and point.return_mean_100 is not None and point.return_mean_100 >= self.target:
                return point.agent_steps
        return 2.0 * self.budget_agent_steps


def _mean_return(points: Sequence[Point], first: float, last: float) -> float | None:
    """The mean of the learning curve from ``first`` to ``last`` agent steps, from the first game that ended on.

    Between iterations the curve is a straight line, so that every iteration counts, also the last one, which ends
    after the budget. After the last iteration, its return stays.
    """
    known = [(point.agent_steps, point.return_mean_100) for point in points if point.return_mean_100 is not None]
    if not known:
        return None
    steps, returns = np.array(known).T
    curve = np.interp(np.linspace(first, last, GRID), steps, returns, left=np.nan)
    return None if np.isnan(curve).all() else float(np.nanmean(curve))
