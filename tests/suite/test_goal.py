"""The score of a seed, and the value of all seeds, against numbers computed by hand."""

import pytest

from jaxpg.suite.goal import Goal
from jaxpg.suite.trained_folder import Point


def _points(*returns: float | None, episodes: int = 100) -> list[Point]:
    """An iteration each hundred agent steps."""
    return [Point(100 * (i + 1), i, episodes, value) for i, value in enumerate(returns)]


@pytest.mark.parametrize(
    ("score", "returns", "expected"),
    [
        ("final", [None, 1.0, 2.0, 7.0], 7.0),
        ("final", [None, None, None, None], None),
        ("final", [], None),
        ("last", [0.0, 0.0, 5.0, 5.0], 5.0),
        ("last", [0.0, 5.0], 5.0),  # reached its target early, and keeps its return
        ("last", [None, None, None, None], None),
        ("area", [4.0, 4.0, 4.0, 4.0], 4.0),
        ("steps", [1.0, 3.0, 2.0, 3.0], -200),
        ("steps", [1.0, 2.0, 2.0, 2.0], -800),
        ("steps", [], -800),
    ],
)
def test_the_score_of_a_seed(score, returns, expected):
    assert Goal(score, "mean", 400, target=3.0).score_of(_points(*returns)) == expected


def test_the_area_rewards_learning_early():
    goal = Goal("area", "mean", 400)
    early, late = (goal.score_of(_points(*returns)) for returns in ([8.0, 8.0, 8.0, 8.0], [0.0, 0.0, 8.0, 8.0]))
    assert early == 8.0
    # from 100 agent steps on, where there are returns: 0 for a third, from 0 to 8 for a third, 8 for a third
    assert late == pytest.approx(4.0, abs=0.1)


def test_an_iteration_that_ends_after_the_budget_counts_too():
    """A budget of 390 in iterations of 100: two runs that differ in their last iteration alone are not equally good."""
    good, bad = (Goal("last", "mean", 390).score_of(_points(0.0, 0.0, 0.0, value)) for value in (8.0, 4.0))
    assert good == pytest.approx(2 * bad)
    assert bad > 1.0


def test_few_games_do_not_reach_the_target():
    goal = Goal("steps", "mean", 400, target=3.0)
    assert goal.score_of(_points(9.0, 9.0, episodes=99)) == -800
    assert goal.score_of(_points(9.0, 9.0, episodes=100)) == -100


def test_the_value_of_all_seeds():
    scores = [1.0, 10.0, 4.0]
    values = {name: Goal("last", name, 400).value_of(scores) for name in ("mean", "median", "worst")}
    assert values == {"mean": 5.0, "median": 4.0, "worst": 1.0}
    assert Goal("steps", "worst", 400, 18.0).in_words([1, 2]) == (
        "worst over seeds 1, 2 of: agent steps to the target, negative 18"
    )
