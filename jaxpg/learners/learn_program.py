"""What REINFORCE learns from one rollout, as one pure function, for a program that also plays the rollout.

``_Reinforce.tell`` does the same from Python, for any number of devices and in chunks that suit a CPU's cache.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpg.core.types import Answers, Outputs, Params, Tape
from jaxpg.learners.base import Metrics
from jaxpg.learners.observation_statistics import clipped_in_rows, moments, of_rows, share_of
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.learners.statistics import merge
from jaxpg.learners.targets import Transitions, make_targets
from jaxpg.learners.update import Objective, apply_gradient, gradient_of_rows, weight_of_rows
from jaxpg.policies.observations import Observation

SWEPT = ("discount", "td_lambda", "value_coefficient", "clip_epsilon")
"""Settings without a schedule that may be arrays. The members of a population may have different ones."""


def make_learn(
    config: ReinforceConfig,
    apply: Callable[[Params, jax.Array], Outputs],
    observation: Observation,
    objective_of: Callable[[ReinforceConfig], Objective],
    optimizer: optax.GradientTransformationExtraArgs,
    update_rows: int,
) -> Callable[[Any, Tape, Answers, Metrics], tuple[Any, Metrics]]:
    """Builds ``learn(state, tape, answers, scheduled) -> (state, metrics)``.

    Args:
      config: the settings of REINFORCE. Those of ``SWEPT`` that are in ``scheduled`` take the place of these.
      apply: ``(params, encoded observations [B, ...]) -> (logits, values)``.
      observation: decodes the tape.
      objective_of: ``settings -> the function to minimise``.
      optimizer: its update takes the learning rate as an argument.
      update_rows: agent steps of each lane in one update.
    """
    steps = config.rollout_agent_steps
    updates = config.epochs * steps // update_rows

    def learn(state: Any, tape: Tape, answers: Answers, scheduled: Metrics) -> tuple[Any, Metrics]:
        own = dataclasses.replace(config, **{name: scheduled[name] for name in SWEPT if name in scheduled})
        objective = objective_of(own)
        targets, returns, metrics = make_targets(own, Transitions(tape.value, *answers), state.returns)
        key, shuffle_key = jax.random.split(state.key)

        def update(now: tuple[Params, optax.OptState], rows: jax.Array) -> tuple[Any, Metrics]:
            total_weight, bonus = weight_of_rows(targets.weight, rows), scheduled["entropy_bonus"]
            first_lane = jnp.int32(0)
            gradient = gradient_of_rows(apply, objective, now[0], tape, first_lane, targets, rows, total_weight, bonus)
            rate = scheduled["learning_rate"]
            *following, means = apply_gradient(optimizer, 1 / updates, *now, gradient, rate)
            return tuple(following), means

        now = (state.params, state.optimizer)
        (params, optimizer_state), shares = jax.lax.scan(
            update, now, _rows_of_updates(config, update_rows, shuffle_key)
        )
        statistics, weights = state.statistics, params
        if config.normalize_observations:
            acted = jnp.concatenate([answers.acted, jnp.zeros_like(answers.acted[:1])])
            statistics = merge(statistics, of_rows(observation, tape.observation, acted))
            counts = clipped_in_rows(observation, state.params, tape.observation, acted)
            metrics["input_clip_fraction"] = share_of(counts)
            params, weights = params | moments(statistics), params["policy"]
        metrics |= (
            {name: x.sum(0) for name, x in shares.items()} | scheduled | {"weight_norm": optax.tree.norm(weights)}
        )
        following = state._replace(
            params=params, optimizer=optimizer_state, returns=returns, statistics=statistics, key=key
        )
        return following, metrics

    return learn


def _rows_of_updates(config: ReinforceConfig, update_rows: int, key: jax.Array) -> jax.Array:
    """The rows of each update, ``i32[updates, update_rows]``, those that ``minibatches`` yields."""
    steps = config.rollout_agent_steps
    if update_rows == steps:
        return jnp.tile(jnp.arange(steps), (config.epochs, 1))
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(jnp.arange(config.epochs))
    return jax.vmap(lambda own: jax.random.permutation(own, steps))(keys).reshape(-1, update_rows)
