"""Mean and standard deviation of all policy inputs seen so far, by which inputs are standardised."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.types import Experience
from jaxpg.learners.statistics import Statistics, deviation, merge, no_statistics, of_sample
from jaxpg.parallel.team import Team
from jaxpg.policies.observations import Observation, unit_scale


def add_seen(
    statistics: Statistics, observation: Observation, experiences: Sequence[Experience], team: Team
) -> Statistics:
    """Adds the observations of one iteration, on all devices of the team, to the statistics.

    Observations of autoreset steps and of idle lanes do not count.

    Args:
      statistics: the statistics so far.
      observation: decodes the tape.
      experiences: one for each device of this process; each has a tape.
      team: all devices of the run.
    """
    seen = []
    for experience in experiences:
        assert experience.tape is not None, "statistics of observations need the tape"
        acted = np.zeros(experience.tape.action.shape, bool)  # the same shape even where a round ended early
        acted[: len(experience.acted)] = experience.acted
        seen.append(of_rows(observation, experience.tape.observation, acted))
    return _merged(statistics, team.reduce(_merge_all, seen))


@partial(jax.jit, static_argnames="observation")
def of_rows(observation: Observation, encoded: jax.Array, acted: jax.Array) -> Statistics:
    """Computes the statistics of a tape's observations row by row, so that only one row is decoded at a time.

    Args:
      observation: decodes the tape.
      encoded: ``[T, N, ...]``, the tape's observations.
      acted: ``bool[T, N]``, which observations count.
    """

    def add_row(so_far: Statistics, row: tuple[jax.Array, jax.Array]) -> tuple[Statistics, None]:
        inputs = unit_scale(jax.vmap(observation.decode)(row[0]))
        weight = row[1].reshape(-1, *(1,) * (inputs.ndim - 1)).astype(jnp.float32)
        return merge(so_far, of_sample(inputs, weight, axis=0)), None

    shape = jax.eval_shape(observation.decode, encoded[0, 0]).shape
    return jax.lax.scan(add_row, no_statistics(shape), (encoded, acted))[0]


@jax.jit
def moments(statistics: Statistics) -> dict[str, jax.Array]:
    """The ``mean`` and ``std`` for the params of ``policies.networks.with_normalizer``; 0 and 1 before any input."""
    return {"mean": statistics.mean, "std": jnp.where(statistics.number > 0, deviation(statistics), 1.0)}


_merged = jax.jit(merge)


def _merge_all(statistics: Statistics) -> Statistics:
    """Merges the statistics of all devices (leading axis) one by one, so that every process gets the same bits."""
    first = jax.tree.map(lambda x: x[0], statistics)
    rest = jax.tree.map(lambda x: x[1:], statistics)
    return jax.lax.scan(lambda so_far, one: (merge(so_far, one), None), first, rest)[0]
