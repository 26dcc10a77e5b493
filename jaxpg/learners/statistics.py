"""Running mean and standard deviation, of observations and of returns.

The formula E[x²] - E[x]² loses every digit in float32 where the mean is large compared with the deviation. This module
instead keeps the sum of squared distances from the mean and merges such sums by the formula of Chan et al. (1979).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

LEAST_DEVIATION = 1e-4
"""The smallest deviation that ``deviation`` returns."""
RELATIVE_ROUNDING = 1e-6
"""A deviation below this share of the mean is a rounding error of float32."""


class Statistics(NamedTuple):
    """Summary of a sample."""

    number: jax.Array  # total weight
    mean: jax.Array
    squares: jax.Array  # sum of weighted squared distances from the mean


def no_statistics(shape: tuple[int, ...] = ()) -> Statistics:
    """The statistics of an empty sample of arrays of this shape."""
    return Statistics(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def of_sample(x: jax.Array, weight: jax.Array, axis: int | None = None) -> Statistics:
    """Computes the statistics of ``x`` over ``axis``, or over all axes.

    Args:
      x: any shape.
      weight: 0 or 1; broadcasts against ``x``.
      axis: the axis of the sample; None for all axes.
    """
    number = weight.sum()
    mean = (weight * x).sum(axis) / jnp.maximum(number, 1)
    return Statistics(number, mean, (weight * jnp.square(x - mean)).sum(axis))


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The statistics of two samples together (Chan et al. 1979)."""
    number = a.number + b.number
    delta, share = b.mean - a.mean, b.number / jnp.maximum(number, 1)
    return Statistics(number, a.mean + delta * share, a.squares + b.squares + jnp.square(delta) * a.number * share)


def follow(running: Statistics, batch: Statistics, decay: float) -> Statistics:
    """Adds a batch to running statistics that forget: the weight of all earlier batches is multiplied by ``decay``.

    Where ``running`` is empty, the batch alone determines the result, so there is no bias towards a start value. A
    batch without weight changes nothing, not even the weight of earlier batches.
    """
    kept = jnp.where(batch.number > 0, decay, 1.0)
    return merge(running._replace(number=kept * running.number, squares=kept * running.squares), batch)


def variance(statistics: Statistics) -> jax.Array:
    """The mean squared distance from the mean; 0 for an empty sample."""
    return statistics.squares / jnp.maximum(statistics.number, 1)


def deviation(statistics: Statistics) -> jax.Array:
    """The standard deviation, safe to divide by: at least 1e-4, and at least a millionth of the mean's size."""
    least = jnp.maximum(LEAST_DEVIATION, RELATIVE_ROUNDING * jnp.abs(statistics.mean))
    return jnp.maximum(jnp.sqrt(variance(statistics)), least)
