"""Count, mean and squared distances: the one running mean and deviation, for observations and for returns.

E[x²] - E[x]² loses every digit in float32 where the mean is large against the deviation. Squared distances from the
mean, merged by the formula of Chan et al. (1979), do not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

LEAST_DEVIATION = 1e-4
"""Smaller deviations count as this much."""
RELATIVE_ROUNDING = 1e-6
"""Deviations smaller than this share of the mean are float32's rounding."""


class Statistics(NamedTuple):
    """What a sample says: how much weight it has, its mean, and the sum of squared distances from it."""

    number: jax.Array
    mean: jax.Array
    squares: jax.Array


def no_statistics(shape: tuple[int, ...] = ()) -> Statistics:
    """Nothing seen yet of arrays of this shape."""
    return Statistics(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def of_sample(x: jax.Array, weight: jax.Array, axis: int | None = None) -> Statistics:
    """The statistics of ``x`` over ``axis`` (all axes for None); ``weight`` is 0 or 1 and broadcasts against ``x``."""
    number = weight.sum()
    mean = (weight * x).sum(axis) / jnp.maximum(number, 1)
    return Statistics(number, mean, (weight * jnp.square(x - mean)).sum(axis))


def merge(a: Statistics, b: Statistics) -> Statistics:
    """Statistics of both samples together (Chan et al. 1979)."""
    number = a.number + b.number
    delta, share = b.mean - a.mean, b.number / jnp.maximum(number, 1)
    return Statistics(number, a.mean + delta * share, a.squares + b.squares + jnp.square(delta) * a.number * share)


def follow(running: Statistics, batch: Statistics, decay: float) -> Statistics:
    """Running statistics that forget: all that was seen before weighs ``decay`` as much, and the batch is added.

    The first batch alone decides where nothing was seen before, so that there is no bias towards a start value. A
    batch without weight changes nothing, however many of them follow one another.
    """
    kept = jnp.where(batch.number > 0, decay, 1.0)
    return merge(running._replace(number=kept * running.number, squares=kept * running.squares), batch)


def variance(statistics: Statistics) -> jax.Array:
    """The mean squared distance from the mean; 0 where nothing was seen."""
    return statistics.squares / jnp.maximum(statistics.number, 1)


def deviation(statistics: Statistics) -> jax.Array:
    """The standard deviation, by which one can divide: at least 1e-4, and at least a millionth of the mean."""
    least = jnp.maximum(LEAST_DEVIATION, RELATIVE_ROUNDING * jnp.abs(statistics.mean))
    return jnp.maximum(jnp.sqrt(variance(statistics)), least)
