"""Mean and standard deviation of all observations seen, which a normaliser subtracts and divides by."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.observations import Observation, unit_scale


class Statistics(NamedTuple):
    """Of all observations seen: their number, mean and sum of squared distances from it."""

    number: jax.Array
    mean: jax.Array
    squares: jax.Array


def no_statistics(shape: tuple[int, ...]) -> Statistics:
    """Nothing seen yet of policy inputs of this shape."""
    return Statistics(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


@partial(jax.jit, static_argnames="observation")
def add_rows(statistics: Statistics, observation: Observation, encoded: jax.Array, acted: jax.Array) -> Statistics:
    """The statistics with a tape's observations added, one agent step of all lanes after another.

    Args:
      statistics: so far.
      observation: decodes the tape.
      encoded: ``[T, N, ...]``, as the tape keeps observations.
      acted: ``bool[T, N]``, which of them count.
    """

    def add_row(so_far: Statistics, row: tuple[jax.Array, jax.Array]) -> tuple[Statistics, None]:
        inputs = unit_scale(jax.vmap(observation.decode)(row[0]))
        weight = row[1].reshape(-1, *(1,) * (inputs.ndim - 1)).astype(jnp.float32)
        count = weight.sum()
        mean = (weight * inputs).sum(0) / jnp.maximum(count, 1)
        squares = (weight * jnp.square(inputs - mean)).sum(0)
        return _merge(so_far, Statistics(count, mean, squares)), None

    return jax.lax.scan(add_row, statistics, (encoded, acted))[0]


@jax.jit
def moments(statistics: Statistics) -> dict[str, jax.Array]:
    """``mean`` and ``std`` as ``policies.with_normalizer`` has them in its params."""
    variance = statistics.squares / jnp.maximum(statistics.number, 1)
    std = jnp.where(variance < 1e-7, 1.0, jnp.sqrt(variance))  # what never changed is only shifted
    return {"mean": statistics.mean, "std": std}


def _merge(a: Statistics, b: Statistics) -> Statistics:
    """Statistics of both samples together (Chan et al. 1979)."""
    number = a.number + b.number
    delta, share = b.mean - a.mean, b.number / jnp.maximum(number, 1)
    return Statistics(number, a.mean + delta * share, a.squares + b.squares + jnp.square(delta) * a.number * share)
