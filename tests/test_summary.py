"""Statistics of games, against hand-computed numbers and SciPy."""

import numpy as np
import pytest
from scipy import stats

from jaxpg.envs.games import rom_ids_by_game
from jaxpg.human_scores import RANDOM_AND_HUMAN
from jaxpg.summary import human_normalized, summarize


def test_hand_computed_numbers() -> None:
    summary = summarize(np.array([100.0, 0, 1, 2, 3, 4, 5, 6]), "CartPole-v1")
    assert summary.episodes == 8
    assert summary.mean == 121 / 8
    assert summary.median == 3.5
    assert summary.iqm == (2 + 3 + 4 + 5) / 4, "the middle half"
    assert (summary.min, summary.max) == (0, 100)
    assert summary.human_normalized is None, "nobody measured a human there"


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    returns = np.random.default_rng(3).exponential(100, size=60)
    summary = summarize(returns, "Pong")
    theirs = stats.bootstrap((returns,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert summary.mean_low < summary.mean < summary.mean_high
    assert [summary.mean_low, summary.mean_high] == pytest.approx([theirs.low, theirs.high], rel=0.02)


def test_games_that_are_all_alike_leave_no_doubt() -> None:
    summary = summarize(np.full(5, 210.0), "MsPacman")
    assert {summary.mean, summary.mean_low, summary.mean_high, summary.median, summary.iqm} == {210.0}


def test_a_random_player_is_0_and_a_human_1() -> None:
    assert human_normalized(-20.7, "Pong") == 0
    assert human_normalized(14.6, "Pong") == 1
    assert human_normalized(307.3 + 0.5 * (6951.6 - 307.3), "MsPacman") == pytest.approx(0.5)
    assert human_normalized(10, "Pooyan") is None
    assert len(RANDOM_AND_HUMAN) == 57
    assert set(RANDOM_AND_HUMAN) <= set(rom_ids_by_game())
    assert all(human > random for random, human in RANDOM_AND_HUMAN.values())
