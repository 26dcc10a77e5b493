"""Statistics of games, against hand-computed numbers, SciPy, and what they promise: simulated."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from jaxpg.envs.games import rom_ids_by_game
from jaxpg.scores.human_scores import RANDOM_AND_HUMAN, human_normalized, incomparable
from jaxpg.scores.intervals import independent_values, mean_interval, summarize

TIMES = 4_000
"""Intervals that are simulated at once; their share that covers is known to 0.0035."""


def test_hand_computed_numbers() -> None:
    summary = summarize(np.array([100.0, 0, 1, 2, 3, 4, 5, 6]), {"game": "CartPole-v1"})
    assert summary.episodes == summary.distinct == 8
    assert summary.mean == 121 / 8
    assert summary.median == 3.5
    assert summary.iqm == (2 + 3 + 4 + 5) / 4, "the middle half"
    assert (summary.min, summary.max) == (0, 100)
    assert summary.human_normalized is None, "nobody measured a human there"


SAMPLES: dict[str, Callable[..., np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.gamma(4, size=shape) - 4,  # its skewness is 1
}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("count", [3, 5, 10, 100])
def test_the_interval_covers_what_it_says(count: int, kind: str) -> None:
    low, high = mean_interval(SAMPLES[kind](np.random.default_rng(count), (count, TIMES)))
    assert 0.93 <= np.mean((low <= 0) & (high >= 0)) <= 0.97


def test_the_interval_of_many_games_covers_very_skewed_returns_on_both_sides() -> None:
    low, high = mean_interval(np.random.default_rng(0).exponential(size=(30, TIMES)) - 1)
    assert 0.93 <= np.mean((low <= 0) & (high >= 0)) <= 0.97
    assert np.mean(low > 0) == pytest.approx(np.mean(high < 0), abs=0.025), "Student's misses to one side only"


def test_the_interval_of_games_that_repeat_covers_what_it_says() -> None:
    """Every evaluation draws 64 games from the 30 that its policy plays without chance."""
    rng = np.random.default_rng(0)
    covers = []
    for _ in range(TIMES // 2):
        chosen = rng.integers(30, size=64)
        returns = rng.normal(size=30)[chosen]
        low, high = mean_interval(returns, independent_values(np.unique(chosen, return_counts=True)[1]))
        covers.append(low <= 0 <= high)
    assert 0.93 <= np.mean(covers) <= 0.97


def test_the_interval_of_many_games_needs_no_more_memory_than_they_do() -> None:
    returns = np.random.default_rng(0).normal(size=20_000)
    tracemalloc.start()
    mean_interval(returns)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10 * returns.nbytes, "resampled 10,000 times they took 3.2 GB"


def test_the_interval_of_few_values_is_students() -> None:
    values = np.array([18.0, 17.0, 20.5])
    theirs = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert np.array(mean_interval(values)) == pytest.approx(theirs)
    columns = np.column_stack([values, 2 * values])
    assert np.array(mean_interval(columns)) == pytest.approx(np.outer(theirs, [1, 2]))


def test_without_skewness_the_interval_of_many_values_is_students_too() -> None:
    values = np.array([-3.0, -2, -1, -1, 0, 0, 1, 1, 2, 3])
    theirs = stats.t.interval(0.95, 9, 0, stats.sem(values))
    assert np.array(mean_interval(values)) == pytest.approx(theirs)
    skewed = mean_interval(np.array([0.0] * 9 + [10]))
    assert skewed[1] - 1 > 1 - skewed[0], "it reaches further to where the long tail is"


def test_an_interval_may_end_beyond_the_greatest_return() -> None:
    """The example of docs/guides/seeds.md."""
    found = summarize(np.array([500.0] * 9 + [100.0]), {"game": "CartPole-v1", "backend": "envpool"})
    assert found.mean_low is not None
    assert found.mean_high is not None
    assert [round(x) for x in (found.mean, found.mean_low, found.mean_high)] == [460, 144, 521]


def test_a_game_that_is_played_again_says_nothing_new() -> None:
    env = {"game": "Pooyan"}
    once = summarize(np.array([1.0, 2, 6]), env)
    twice = summarize(np.array([1.0, 2, 6, 6, 2, 1]), env, games=np.array([7, 8, 9, 9, 8, 7]))
    assert (twice.episodes, twice.distinct) == (6, 3)
    assert [twice.mean_low, twice.mean_high] == pytest.approx([once.mean_low, once.mean_high])
    one = summarize(np.array([5.0] * 4), env, games=np.zeros(4))
    assert (one.distinct, one.mean, one.mean_low, one.mean_high) == (1, 5.0, None, None), "one game has no interval"
    assert summarize(np.array([5.0]), env).mean_low is None


def test_games_that_are_all_alike_but_not_the_same_leave_no_doubt() -> None:
    summary = summarize(np.full(5, 210.0), {"game": "MsPacman"})
    assert {summary.mean, summary.mean_low, summary.mean_high, summary.median, summary.iqm} == {210.0}


def test_a_random_player_is_0_and_a_human_1() -> None:
    pong, pacman = {"game": "Pong"}, {"game": "MsPacman"}
    assert human_normalized(-20.7, pong) == 0
    assert human_normalized(14.6, pong) == 1
    assert human_normalized(307.3 + 0.5 * (6951.6 - 307.3), pacman) == pytest.approx(0.5)
    assert human_normalized(10, {"game": "Pooyan"}) is None
    assert len(RANDOM_AND_HUMAN) == 57
    assert set(RANDOM_AND_HUMAN) <= set(rom_ids_by_game())
    assert all(human > random for random, human in RANDOM_AND_HUMAN.values())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, None),
        ({"max_episode_agent_steps": 108_000, "frame_skip": 1}, None),
        ({"noop_max": 0, "sticky_action_probability": 0.25}, None),
        ({"max_episode_agent_steps": 50}, "the time limit is 200 frames, a human's 108,000"),
        ({"frame_skip": 2}, "the time limit is 54,000 frames, a human's 108,000"),
        ({"noop_max": 100}, "games begin after up to 100 no-ops, a human's after up to 30"),
        ({"noop_max": 0}, "all games begin alike, without no-ops and sticky actions"),
        ({"noop_max": "many"}, "the settings of the emulators cannot be read"),
    ],
)
def test_only_what_a_human_played_is_compared_with_a_human(settings: dict, why: str | None) -> None:
    env = {"game": "Pong", "max_episode_agent_steps": 27_000, "frame_skip": 4, "noop_max": 30, **settings}
    assert incomparable(env) == why
    assert (human_normalized(0, env) is None) == (why is not None)
    assert incomparable({**env, "game": "CartPole-v1"}) is None, "where nobody measured a human"
    theirs = {**env, "backend": "mine"}
    assert incomparable(theirs) is human_normalized(0, theirs) is None, "another environment of this name"
