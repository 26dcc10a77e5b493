"""Losses over a batch of agent steps. Every mean is ``sum(weight · x) / total_weight``.

A plain mean over masked numbers would shrink the loss whenever a batch holds autoreset steps; so the
weight's total is divided by, and it is passed in because a batch is summed in several chunks.
All arguments are ``[B]`` or ``[B, A]`` for B agent steps.
"""

import jax
import jax.numpy as jnp


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probability of the actions taken: ``f32[B]``."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def clip_probability(log_prob: jax.Array, least: float) -> jax.Array:
    """Log-probabilities clipped to those of ``[least, 1 - least]``, beyond which the gradient is 0: ``f32[B]``."""
    return jnp.clip(log_prob, jnp.log(least), jnp.log1p(-least))


def policy_gradient_loss(log_prob: jax.Array, advantage: jax.Array, weight: jax.Array) -> jax.Array:
    """The score-function estimator: ``−Σ w · log π(a|s) · A``, whose gradient is REINFORCE (Williams 1992)."""
    return -jnp.sum(weight * log_prob * jax.lax.stop_gradient(advantage))


def clipped_ratio_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, weight: jax.Array, epsilon: float
) -> jax.Array:
    """``−Σ w · min(ρA, clip(ρ, 1−ε, 1+ε)A)`` with ``ρ = π/π_old`` (Schulman et al. 2017, equation 7).

    It makes several epochs over one batch sound; at the first step, ρ = 1, its gradient is REINFORCE.
    """
    advantage = jax.lax.stop_gradient(advantage)
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1 - epsilon, 1 + epsilon)
    return -jnp.sum(weight * jnp.minimum(ratio * advantage, clipped * advantage))


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
    """``x`` minus its weighted mean, divided by its weighted standard deviation."""
    mean = weighted_mean(x, weight)
    variance = weighted_mean(jnp.square(x - mean), weight)
    return (x - mean) / jnp.sqrt(variance + 1e-8)
