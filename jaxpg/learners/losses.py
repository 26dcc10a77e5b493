"""Losses over a batch of agent steps. Every mean is ``sum(weight · x) / total_weight``.

A plain mean over masked numbers would shrink the loss whenever a batch holds autoreset steps; so the
weight's total is divided by, and it is passed in because a batch is summed in several chunks.
All arguments are ``[B]`` or ``[B, A]`` for B agent steps.
"""

import jax
import jax.numpy as jnp

from jaxpg.learners.statistics import RELATIVE_ROUNDING, deviation, of_sample

MOST_LOG_RATIO = 20.0
"""Of two policies' log-probabilities; e to the power of more than 88 is infinite in float32."""


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probability of the actions taken: ``f32[B]``."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def clip_probability(log_prob: jax.Array, least: float) -> jax.Array:
    """Log-probabilities clipped to those of ``[least, 1 - least]``, beyond which the gradient is 0: ``f32[B]``."""
    return jnp.clip(log_prob, jnp.log(least), jnp.log1p(-least))


def log_ratio(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """``log π/π_old`` of the actions taken, within [-20, 20]: ``f32[B]``."""
    return jnp.clip(log_prob - old_log_prob, -MOST_LOG_RATIO, MOST_LOG_RATIO)


def policy_gradient_loss(log_prob: jax.Array, advantage: jax.Array, weight: jax.Array) -> jax.Array:
    """The score-function estimator: ``−Σ w · log π(a|s) · A``, whose gradient is REINFORCE (Williams 1992)."""
    return -jnp.sum(weight * log_prob * jax.lax.stop_gradient(advantage))


def ratio_loss(log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, weight: jax.Array) -> jax.Array:
    """``−Σ w · ρA`` with ``ρ = π/π_old``: the policy gradient from actions that an older policy chose.

    Where both policies are the same, ρ = 1, its gradient is that of ``policy_gradient_loss``.
    """
    return -jnp.sum(weight * jnp.exp(log_ratio(log_prob, old_log_prob)) * jax.lax.stop_gradient(advantage))


def clipped_ratio_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, weight: jax.Array, epsilon: float
) -> jax.Array:
    """``−Σ w · min(ρA, clip(ρ, 1−ε, 1+ε)A)`` with ``ρ = π/π_old`` (Schulman et al. 2017, equation 7).

    It makes several epochs over one batch sound; at the first step, ρ = 1, its gradient is REINFORCE.
    """
    advantage = jax.lax.stop_gradient(advantage)
    ratio = jnp.exp(log_ratio(log_prob, old_log_prob))
    clipped = jnp.clip(ratio, 1 - epsilon, 1 + epsilon)
    return -jnp.sum(weight * jnp.minimum(ratio * advantage, clipped * advantage))


def is_clipped(log_prob: jax.Array, old_log_prob: jax.Array, epsilon: float) -> jax.Array:
    """Whether the ratio ``π/π_old`` lies outside of [1−ε, 1+ε]: ``bool[B]``."""
    return jnp.abs(jnp.expm1(log_ratio(log_prob, old_log_prob))) > epsilon


def kl_estimate(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """``ρ − 1 − log ρ`` with ``ρ = π/π_old``, whose mean estimates KL(π_old ‖ π): ``f32[B]``, never negative.

    It has the expectation of ``−log ρ`` and less variance (Schulman 2020, "Approximating KL divergence", k3).
    """
    difference = log_ratio(log_prob, old_log_prob)
    return jnp.maximum(jnp.expm1(difference) - difference, 0.0)


def entropy(logits: jax.Array) -> jax.Array:
    """Entropy of the action distribution in nats: ``f32[B]``, between 0 and log A."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def value_loss(value: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
    """``½ Σ w · (V − G)²``."""
    return 0.5 * jnp.sum(weight * jnp.square(value - jax.lax.stop_gradient(target)))


def weighted_mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """``Σ w·x / Σ w``, and 0 where nothing has weight."""
    return jnp.sum(weight * x) / jnp.maximum(jnp.sum(weight), 1.0)


def standardise(x: jax.Array, weight: jax.Array) -> jax.Array:
    """``x`` minus its weighted mean, divided by its weighted standard deviation; near 0 where all are alike."""
    sample = of_sample(x, weight)
    return (x - sample.mean) / deviation(sample)


def explained_variance(value: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
    """How much of the targets' variance the values explain, ``1 − Σ w (G − V)² / Σ w (G − mean G)²``: ``f32[]``.

    1 where they are equal, 0 where the mean would do as well, and never below -1, which stands for anything worse.
    Where the targets do not vary there is nothing to explain, and it is 0.
    """
    sample = of_sample(target, weight)
    residual = jnp.sum(weight * jnp.square(target - value))
    varies = sample.squares > sample.number * jnp.square(RELATIVE_ROUNDING * sample.mean)
    share = 1 - residual / jnp.where(varies, sample.squares, 1.0)
    return jnp.where(varies, jnp.clip(share, -1.0, 1.0), 0.0)
