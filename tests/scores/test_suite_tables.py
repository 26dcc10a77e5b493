"""What the rows of a suite say."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jaxpg.core.errors import UserError
from jaxpg.scores.suite_file import SuiteResults, read_suite, write_suite
from jaxpg.scores.suite_tables import differences, game_score, markdown, normalized_scores, over_games
from tests.suite_rows import made_row, made_rows


def test_a_game_s_score_is_the_mean_of_its_seeds_with_student_s_interval() -> None:
    means = [10.0, 14.0, 30.0]
    score = game_score([made_row("a", "Pong", seed, mean, mean / 10) for seed, mean in enumerate(means)], "sampled")
    low, high = stats.t.interval(0.95, 2, loc=18.0, scale=stats.sem(means))
    assert (score.seeds, score.mean, score.human_normalized) == (3, 18.0, pytest.approx(1.8))
    assert (score.low, score.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_interval_and_none_has_no_score() -> None:
    score = game_score([made_row("a", "Pong", 1, 3.0), made_row("a", "Pong", 2, None)], "sampled")
    assert (score.seeds, score.mean, score.low, score.high, score.human_normalized) == (1, 3.0, None, None, None)
    assert game_score([made_row("a", "Pong", 2, None)], "sampled") is None


def test_a_difference_has_welch_s_interval_and_the_first_recipe_of_a_game_is_the_one_to_beat() -> None:
    mine, base = [10.0, 14.0, 30.0], [1.0, 2.0]
    rows = [made_row("base", "Pong", seed, mean) for seed, mean in enumerate(base)]
    rows += [made_row("mine", "Pong", seed, mean) for seed, mean in enumerate(mine)]
    rows += [made_row("other", "Pong", 1, 5.0), made_row("mine", "Qbert", 1, 5.0), made_row("mine", "Qbert", 2, 6.0)]
    (found,) = differences(rows)
    assert found[:4] == ("mine", "base", "Pong", "sampled")
    expected = stats.ttest_ind(mine, base, equal_var=False).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((16.5, expected.low, expected.high))
    assert "| mine | base | Pong | sampled | 16.5 | " in markdown(rows, 5, "latest")
    same = [made_row(name, "Pong", seed, 3.0) for name in ("base", "mine") for seed in (1, 2)]
    assert differences(same)[0][4:] == (0.0, 0.0, 0.0)


def test_recipes_are_compared_on_the_games_that_all_have() -> None:
    rows = [*made_rows(), made_row("better", "Qbert", 1, 5.0, 0.5)]
    found = {
        recipe: [game.tolist() for game in scores] for recipe, scores in normalized_scores(rows, "sampled").items()
    }
    assert found == {"plain": [[0.2], [0.2, 0.3]], "better": [[0.3, 0.4], [0.3, 0.4]]}
    assert normalized_scores(rows, "greedy") == {}


def test_over_games_has_an_interval_where_every_game_has_two_runs() -> None:
    whole = over_games([np.array([0.1, 0.3]), np.array([0.5, 0.7])])
    assert (whole.games, whole.runs, whole.iqm, whole.mean) == (2, 4, pytest.approx(0.4), pytest.approx(0.4))
    assert whole.iqm_interval.low < 0.4 < whole.iqm_interval.high
    assert over_games([np.array([0.1]), np.array([0.5, 0.7])]).iqm_interval is None


def test_the_tables_say_which_run_failed_and_why() -> None:
    text = markdown(made_rows(), 5, "latest")
    assert "| plain | Pong | sampled | 1 of 2 | 11 | - | 20.0% |" in text
    assert "| plain | Pong | 2 | - | - | 1,000 | 1.0 | **failed**: a \\| weight became NaN |" in text
    assert "| better | 2 | 4 | 35.0% | 30.0% to 40.0% | 35.0% |" in text
    for table in text.split("\n\n"):
        columns = {line.replace("\\|", "").count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(columns) <= 1, table


def test_results_are_read_back_and_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    results = SuiteResults(episodes=5, checkpoint="best", rows=made_rows())
    path = tmp_path / "suite.json"
    write_suite(path, results)
    assert read_suite(path) == results
    path.write_text(path.read_text().replace('"seed": 1', '"seed": "1"'))
    with pytest.raises(UserError, match="cannot be read as the results of a suite"):
        read_suite(path)
