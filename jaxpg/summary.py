"""What a number of games says about a policy."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxpg.human_scores import RANDOM_AND_HUMAN

RESAMPLES = 10_000


class Summary(NamedTuple):
    """Statistics of the returns of K games; the field names are the keys of ``evaluation.json``."""

    episodes: int
    mean: float
    mean_low: float  # of the 95 % bootstrap interval of the mean
    mean_high: float
    median: float
    iqm: float  # mean of the middle half
    min: float
    max: float
    human_normalized: float | None  # 0 for a random player, 1 for a human; None where no one measured


def summarize(returns: np.ndarray, game: str) -> Summary:
    """The statistics of ``returns`` (``f64[K]``, unclipped scores of whole games), of which there is at least one.

    The interval is one number where all games are alike. The
    interquartile mean leaves out the best and the worst quarter (Agarwal et al. 2021, section 4.3).
    """
    mean = float(returns.mean())
    low, high = bootstrap_interval(returns)
    return Summary(
        episodes=returns.size,
        mean=mean,
        mean_low=low,
        mean_high=high,
        median=float(np.median(returns)),
        iqm=float(stats.trim_mean(returns, 0.25)),
        min=float(returns.min()),
        max=float(returns.max()),
        human_normalized=human_normalized(mean, game),
    )


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of ``f64[K]`` by the percentile bootstrap (Efron 1979)."""
    # two lines of NumPy, because SciPy's bootstrap refuses a single value; a test compares the two
    resampled = np.random.default_rng(0).choice(values, (RESAMPLES, values.size)).mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def human_normalized(score: float, game: str) -> float | None:
    """``(score - random) / (human - random)`` (Mnih et al. 2015, extended data table 2); None without both scores."""
    if game not in RANDOM_AND_HUMAN:
        return None
    random, human = RANDOM_AND_HUMAN[game]
    return (score - random) / (human - random)
