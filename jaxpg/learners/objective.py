"""What REINFORCE minimises over a chunk of a batch: policy loss plus value loss minus entropy bonus."""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from jaxpg.core.types import Outputs, Tape
from jaxpg.learners import losses
from jaxpg.learners.base import Metrics
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.learners.targets import Targets

PolicyLoss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""``(log_prob, old_log_prob, advantage, weight), each f32[B] -> f32[]``"""


def policy_loss_for(config: ReinforceConfig, updates_per_batch: int) -> PolicyLoss:
    """Chooses the policy loss for a number of updates per batch.

    - One update learns from the actions of the current policy: the score-function estimator.
    - Several updates in a single pass learn from the actions of a slightly older policy. Each agent step is weighted by
      the ratio of the two policies, so the estimator stays unbiased.
    - Several passes clip that ratio.

    Args:
      config: epochs and the width of the clip.
      updates_per_batch: updates of all epochs over one batch.
    """
    if updates_per_batch == 1:
        return lambda log_prob, old_log_prob, advantage, weight: losses.policy_gradient_loss(
            log_prob, advantage, weight
        )
    if config.epochs == 1:
        return losses.ratio_loss
    return partial(losses.clipped_ratio_loss, epsilon=config.clip_epsilon)


def objective(
    config: ReinforceConfig,
    policy_loss: PolicyLoss,
    outputs: Outputs,
    chunk: Tape,
    targets: Targets,
    total_weight: jax.Array,
    entropy_bonus: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Computes what a chunk of B agent steps adds to the mean loss of its update.

    Args:
      config: the coefficients of the loss.
      policy_loss: from ``policy_loss_for``.
      outputs: logits ``f32[B, A]`` and values ``f32[B]`` of the policy that learns.
      chunk: B agent steps of the tape, ``[B, ...]``, with the logits of the policy that acted.
      targets: ``f32[B]`` each.
      total_weight: ``f32[]``, sum of the weights of all agent steps of the update.
      entropy_bonus: ``f32[]``, coefficient of the entropy.

    Returns:
      The loss to minimise, ``f32[]``, and its parts as metrics. Both add up over the chunks of an update.
    """
    logits, value = outputs
    chex.assert_equal_shape((logits, chunk.logits))
    chex.assert_equal_shape((value, chunk.action, *targets))
    old_log_prob = losses.log_prob_of(chunk.logits, chunk.action)
    log_prob = losses.log_prob_of(logits, chunk.action)
    parts = {"kl": jnp.sum(targets.weight * losses.kl_estimate(log_prob, old_log_prob))}
    if config.probability_clip:
        log_prob = losses.clip_probability(log_prob, config.probability_clip)
    if config.epochs > 1:
        is_clipped = losses.is_clipped(log_prob, old_log_prob, config.clip_epsilon)
        parts["clip_fraction"] = jnp.sum(targets.weight * is_clipped)
    parts["policy_loss"] = policy_loss(log_prob, old_log_prob, targets.advantage, targets.weight)
    parts["value_loss"] = jnp.zeros(())
    if config.baseline == "value":
        parts["value_loss"] = losses.value_loss(value, targets.value_target, targets.weight)
    parts["entropy"] = jnp.sum(targets.weight * losses.entropy(logits))
    parts = {name: part / total_weight for name, part in parts.items()}
    total = parts["policy_loss"] + config.value_coefficient * parts["value_loss"] - entropy_bonus * parts["entropy"]
    return total, parts
