"""Scores over several games, against numbers computed by hand and SciPy.

rliable 1.2.0 gave the same values, and intervals that agree to the noise of resampling. It is no dependency, because it
does not start with pandas 3.
"""

import numpy as np
import pytest
from scipy import stats

from jaxpg.scores import over_games
from jaxpg.scores.over_games import iqm, mean_of_games, performance_profile, with_interval


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end() -> None:
    scores = [np.array([8.0, 1.0]), np.array([3.0, 2.0]), np.array([100.0, 4.0]), np.array([-50.0, 5.0])]
    assert iqm(scores) == (2 + 3 + 4 + 5) / 4


@pytest.mark.parametrize("runs", range(1, 14))
def test_the_interquartile_mean_is_scipy_s_for_any_number_of_runs(runs: int) -> None:
    scores = [np.random.default_rng(runs + game).normal(size=runs) for game in range(3)]
    assert iqm(scores) == pytest.approx(stats.trim_mean(np.concatenate(scores), 0.25))


def test_games_count_alike_however_many_runs_they_have() -> None:
    scores = [np.array([1.0, 1.0, 1.0]), np.array([3.0, 5.0])]
    assert mean_of_games(scores) == (1 + 4) / 2
    profile = performance_profile(scores, np.array([0.0, 1.0, 3.0, 4.9, 5.0]))
    assert profile.tolist() == [1.0, 0.5, 0.25, 0.25, 0.0]


def test_runs_are_drawn_within_their_game() -> None:
    """Where the runs of each game are equal, nothing varies, however much the games differ."""
    found = with_interval(mean_of_games, [np.array([1.0, 1.0]), np.array([100.0, 100.0])])
    assert found == (50.5, 50.5, 50.5)


def test_the_interval_is_that_of_all_resamples() -> None:
    """Three runs of one game have 27 resamples, whose means and their chances can be written down."""
    runs = np.array([0.0, 3.0, 6.0])
    means = np.array([(a + b + c) / 3 for a in runs for b in runs for c in runs])
    found = with_interval(mean_of_games, [runs])
    assert found.value == 3
    # with 27 resamples of equal chance, the 2.5 % quantile is the lowest mean, and the highest likewise
    assert (found.low, found.high) == (means.min(), means.max())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(over_games, "CONFIDENCE", 0.5)
        narrower = with_interval(mean_of_games, [runs])
    assert (narrower.low, narrower.high) == tuple(np.quantile(means, [0.25, 0.75]))


def test_a_profile_has_an_interval_at_each_level() -> None:
    levels = np.array([-1.0, 1.0, 9.0])
    found = with_interval(lambda drawn: performance_profile(drawn, levels), [np.array([0.0, 2.0])])
    assert [found.value.tolist(), found.low.tolist(), found.high.tolist()] == [[1, 0.5, 0], [1, 0, 0], [1, 1, 0]]


def test_a_single_run_has_no_interval() -> None:
    assert with_interval(iqm, [np.array([1.0, 2.0]), np.array([3.0])]) is None
