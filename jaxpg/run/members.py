"""The members of a population of gradient learners: their first states, their randomness, and their numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.errors import UserError
from jaxpg.kernel.pieces import Experiment
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.writers import Record


def first_state(experiment: Experiment, seed: int) -> tuple[Any, jax.Array]:
    """The learner's state before the first iteration, and the key of the actions' randomness.

    In a population every leaf of both has the leading axis P. The members' own seeds then take the place of ``seed``,
    and each member begins as a training alone would.
    """
    if not experiment.members:
        return _alone(experiment, seed)
    each = [_alone(experiment, member.seed) for member in experiment.members]
    stacked: tuple[Any, jax.Array] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return stacked


def _alone(experiment: Experiment, seed: int) -> tuple[Any, jax.Array]:
    init_key, learner_key, act_key = _split_in_three(jax.random.key(seed))
    params = jax.jit(experiment.policy.init)(init_key)
    return jax.jit(experiment.learner.init)(learner_key, params), act_key


@jax.jit
def _split_in_three(key: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jax.random.split(key, 3))


def key_of_iteration(key: jax.Array, iteration: int) -> jax.Array:
    """The randomness of the actions of one iteration, from what ``first_state`` returned."""
    return _fold_in(key, iteration)


@jax.jit
def _fold_in(key: jax.Array, iteration: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (0, None))(key, iteration) if key.ndim else jax.random.fold_in(key, iteration)


def check_members(progress: RunProgress, number: int) -> None:
    """Raises UserError where a run is to go on with another number of members; ``number`` is 0 for no population."""
    if len(progress.members) != number:
        before, now = (f"{count or 1} member{'s' if count else ''}" for count in (len(progress.members), number))
        raise UserError(
            f"run.population: this run has {before}, and cannot go on with {now}; resume without run.population and "
            "run.sweep, or begin a new run"
        )


def numbers_of_members(progress: RunProgress) -> Record:
    """The newest numbers of each member, such as ``return_mean_100/3``, and which one is best; empty for no population.

    The best member is that with the highest mean return of the last 100 episodes.
    """
    if not progress.members:
        return {}
    best = progress.best_member
    record: Record = {"best_member": best, "best_member_return": progress.members[best].return_mean_100}
    for number, member in enumerate(progress.members):
        own = {"episodes": member.episodes, "return_mean_100": member.return_mean_100, **member.metrics}
        record |= {f"{name}/{number}": value for name, value in own.items()}
    return record
