"""Computes what the losses need from the rewards of a batch: returns-to-go, advantages and weights."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.types import Experience, ValueScale
from jaxpg.learners import losses
from jaxpg.learners.base import Metrics
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.learners.returns import credit, lambda_returns, total_minus_step, transformed
from jaxpg.learners.statistics import Statistics, deviation, follow, of_sample


class Transitions(NamedTuple):
    """What returns are computed from, on the device."""

    value: jax.Array  # f32[T+1, N], the value head's output; the last row is the bootstrap
    reward: jax.Array  # f32[T, N]
    terminated: jax.Array  # bool[T, N]
    truncated: jax.Array  # bool[T, N]
    life_lost: jax.Array  # bool[T, N]
    acted: jax.Array  # bool[T, N]


class Targets(NamedTuple):
    """What the losses need besides the tape: ``f32[T, N]`` each."""

    advantage: jax.Array
    value_target: jax.Array
    weight: jax.Array  # 1 where the emulator answered an action, 0 on autoreset steps


def transitions_of(experience: Experience) -> Transitions:
    """The transitions of one device's lanes, on the device that holds the tape."""
    assert experience.tape is not None, "REINFORCE needs the tape"
    value = experience.tape.value
    uploaded = (jax.device_put(np.asarray(getattr(experience, name)), value.device) for name in Transitions._fields[1:])
    return Transitions(value, *uploaded)


def make_targets(
    config: ReinforceConfig, transitions: Transitions, running: Statistics
) -> tuple[Targets, Statistics, Metrics]:
    """Computes the advantages, the value head's targets and the weights of a batch.

    Args:
      config: determines returns, baseline and scales.
      transitions: the transitions of all lanes.
      running: statistics of the returns of earlier batches.

    Returns:
      The targets; the running statistics including this batch; and the metrics ``return_to_go_mean`` and, with the
      value baseline, ``explained_variance``.
    """
    chex.assert_equal_shape(transitions[1:])
    chex.assert_shape(transitions.value, (transitions.reward.shape[0] + 1, transitions.reward.shape[1]))
    value = transitions.value
    if config.normalize_value:
        value = value_scale(running).returns_of(value)  # about 0 before the first batch
    returns, weight = returns_to_go(config, transitions, value)
    batch = of_sample(returns, weight)
    following = follow(running, batch, config.ema_decay)
    metrics = {"return_to_go_mean": batch.mean}
    if config.baseline == "value":
        metrics["explained_variance"] = losses.explained_variance(value[:-1], returns, weight)
    advantage = advantages(config, returns, weight, value[:-1], running, following)
    value_target = (returns - following.mean) / deviation(following) if config.normalize_value else returns
    return Targets(advantage, value_target, weight), following, metrics


def value_scale(running: Statistics) -> ValueScale:
    """The scale of a value head that learns returns-to-go standardised by these statistics."""
    return ValueScale(running.mean, deviation(running))


def returns_to_go(config: ReinforceConfig, transitions: Transitions, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the credit of each action and the action's weight in every loss: ``f32[T, N]`` each.

    Args:
      config: determines discount, lambda, cuts, and the transform and scale of rewards.
      transitions: the transitions of all lanes.
      value: ``f32[T+1, N]``, values on the scale of returns.
    """
    _, reward, terminated, truncated, life_lost, acted = transitions
    seen_reward = config.reward_scale * transformed(reward, config.reward_transform)
    over_lanes = partial(jax.vmap, in_axes=1, out_axes=1)
    if config.weighting == "total_minus_step":
        return over_lanes(total_minus_step)(seen_reward, terminated | truncated, acted)
    ends = partial(
        credit,
        discount=config.discount,
        lambda_=config.td_lambda,
        cut_at_reward=config.cut_at_reward,
        cut_at_life_loss=config.cut_at_life_loss,
    )
    discounts, lambdas = over_lanes(ends)(reward, terminated, truncated, life_lost, acted)
    return over_lanes(lambda_returns)(seen_reward, discounts, value, lambdas), acted.astype(jnp.float32)


def advantages(
    config: ReinforceConfig,
    returns: jax.Array,
    weight: jax.Array,
    value: jax.Array,
    running: Statistics,
    following: Statistics,
) -> jax.Array:
    """Subtracts the baseline from the returns and scales the result as the settings say: ``f32[T, N]``.

    Args:
      config: determines the baseline.
      returns: ``f32[T, N]``.
      weight: ``f32[T, N]``.
      value: ``f32[T, N]``, the value head's output on the scale of returns.
      running: statistics of the returns of earlier batches.
      following: statistics of the returns of earlier batches and of this batch.
    """
    match config.baseline:
        case "none":
            return returns
        case "batch":
            return losses.standardise(returns, weight)
        case "ema":
            return _over_running_mean(returns, weight, running, following)
        case "value":
            advantage = returns - value
            return losses.standardise(advantage, weight) if config.normalize_advantage else advantage


def _over_running_mean(returns: jax.Array, weight: jax.Array, running: Statistics, following: Statistics) -> jax.Array:
    """Subtracts the running mean from the returns and divides by a deviation.

    The divisor is the larger of two numbers: the running deviation, and the root mean square of this batch's distances
    from the running mean. So the root mean square of the advantages is at most 1, even after a long time of equal
    returns.

    The baseline comes from ``running``, which does not contain this batch, so the batch does not bias its own baseline.
    Where ``running`` is still empty, ``following``, which contains this batch, takes its place.
    """
    known = jax.tree.map(partial(jnp.where, running.number > 0), running, following)
    distance = returns - known.mean
    of_batch = jnp.sqrt(losses.weighted_mean(jnp.square(distance), weight))
    return distance / jnp.maximum(deviation(known), of_batch)
