"""Statistics over several games, after Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice". The definitions are those of the authors' library rliable.

A score is one run's, on a scale that all games share, such as human-normalised scores. ``scores`` is a list with one
array for each game, ``f64[R]``, where R is the number of the game's runs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
"""Seed of the bootstrap, so that the same scores always give the same interval."""


class Estimate(NamedTuple):
    """An estimate with its 95 % interval. Numbers or arrays."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Computes the interquartile mean: the mean of the middle half of all runs' scores, whatever their game.

    The result is that of ``scipy.stats.trim_mean(scores, 0.25)``, which takes much longer for few scores.

    >>> float(iqm([np.array([0.0, 100.0]), np.array([1.0, 3.0])]))
    2.0
    """
    ordered = np.sort(np.concatenate(list(scores)))
    left_out = int(0.25 * ordered.size)
    return ordered[left_out : ordered.size - left_out].mean()


def mean_of_games(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Computes the mean over games of each game's mean score."""
    return np.mean([game.mean() for game in scores])


def performance_profile(scores: Sequence[np.ndarray], levels: np.ndarray) -> np.ndarray:
    """Computes the share of runs whose score is above each level, as the mean over games of each game's share.

    Args:
      scores: the scores of each game.
      levels: ``f64[L]``.

    Returns:
      The shares, ``f64[L]``.

    >>> performance_profile([np.array([0.0, 2.0]), np.array([2.0, 3.0])], np.array([0.0, 1.0, 2.5])).tolist()
    [0.75, 0.75, 0.25]
    """
    return np.mean([(game[:, None] > levels).mean(axis=0) for game in scores], axis=0)


def with_interval(
    statistic: Callable[[Sequence[np.ndarray]], np.ndarray], scores: Sequence[np.ndarray]
) -> Estimate | None:
    """Computes a statistic and its stratified bootstrap interval (percentiles).

    The runs of each game are drawn anew with replacement, within the game. Returns None where a game has fewer than two
    runs, because nothing is known of their spread.
    """
    if any(game.size < 2 for game in scores):
        return None
    random = np.random.default_rng(SEED)
    drawn = [statistic([game[random.integers(game.size, size=game.size)] for game in scores]) for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.stack(drawn), [tail, 1 - tail], axis=0)
    return Estimate(statistic(scores), low, high)
