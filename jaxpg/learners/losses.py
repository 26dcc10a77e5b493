"""Losses over a batch of agent steps, as weighted sums.

The mean loss of an update is ``Σ weight · x / Σ weight``. Autoreset steps have weight 0, and a plain mean would shrink
the loss whenever a batch holds some. The losses here return the sum alone, because an update adds up several chunks;
the caller divides by the total weight of the update. All arguments are ``[B]`` or ``[B, A]`` for B agent steps.
"""

import jax
import jax.numpy as jnp

from jaxpg.learners.statistics import RELATIVE_ROUNDING, deviation, of_sample

MOST_LOG_RATIO = 20.0
"""Bound on the log of the ratio of two probabilities. In float32, exp(x) is infinite for x > 88."""


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probability of the actions taken: ``f32[B]``."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def clip_probability(log_prob: jax.Array, least: float) -> jax.Array:
    """Clips log-probabilities to those of ``[least, 1 - least]``, ``f32[B]``; outside, the gradient is 0."""
    return jnp.clip(log_prob, jnp.log(least), jnp.log1p(-least))


def log_ratio(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """``log π/π_old`` of the actions taken, clipped to [-20, 20]: ``f32[B]``."""
    return jnp.clip(log_prob - old_log_prob, -MOST_LOG_RATIO, MOST_LOG_RATIO)


def policy_gradient_loss(log_prob: jax.Array, advantage: jax.Array, weight: jax.Array) -> jax.Array:
    """The score-function estimator: ``−Σ w · log π(a|s) · A``, whose gradient is REINFORCE (Williams 1992)."""
    return -jnp.sum(weight * log_prob * jax.lax.stop_gradient(advantage))


def ratio_loss(log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, weight: jax.Array) -> jax.Array:
    """``−Σ w · ρA`` with ``ρ = π/π_old``: the policy gradient from actions that an older policy chose.

    Where both policies are equal (ρ = 1), the gradient of this loss is that of ``policy_gradient_loss``.
    """
    return -jnp.sum(weight * jnp.exp(log_ratio(log_prob, old_log_prob)) * jax.lax.stop_gradient(advantage))


def clipped_ratio_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, weight: jax.Array, epsilon: float
) -> jax.Array:
    """``−Σ w · min(ρA, clip(ρ, 1−ε, 1+ε)A)`` with ``ρ = π/π_old`` (Schulman et al. 2017, equation 7).

    The clip makes several epochs over one batch sound. At the first update (ρ = 1) the gradient is that of REINFORCE.
    """
    advantage = jax.lax.stop_gradient(advantage)
    ratio = jnp.exp(log_ratio(log_prob, old_log_prob))
    clipped = jnp.clip(ratio, 1 - epsilon, 1 + epsilon)
    return -jnp.sum(weight * jnp.minimum(ratio * advantage, clipped * advantage))


def is_clipped(log_prob: jax.Array, old_log_prob: jax.Array, epsilon: float) -> jax.Array:
    """Whether the ratio ``π/π_old`` lies outside [1−ε, 1+ε]: ``bool[B]``."""
    return jnp.abs(jnp.expm1(log_ratio(log_prob, old_log_prob))) > epsilon


def kl_estimate(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """``ρ − 1 − log ρ`` with ``ρ = π/π_old``: ``f32[B]``, never negative. The mean estimates KL(π_old ‖ π).

    This estimate has the expectation of ``−log ρ`` and less variance (Schulman 2020, "Approximating KL divergence",
    k3).
    """
    difference = log_ratio(log_prob, old_log_prob)
    return jnp.maximum(jnp.expm1(difference) - difference, 0.0)


def entropy(logits: jax.Array) -> jax.Array:
    """Entropy of the action distribution in nats: ``f32[B]``, between 0 and log A."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def value_loss(value: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
    """The value head's loss, ``½ Σ w · (V − G)²``: ``f32[]``."""
    return 0.5 * jnp.sum(weight * jnp.square(value - jax.lax.stop_gradient(target)))


def weighted_mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """``Σ w·x / Σ w``, or 0 where every weight is 0: ``f32[]``."""
    return jnp.sum(weight * x) / jnp.maximum(jnp.sum(weight), 1.0)


def standardise(x: jax.Array, weight: jax.Array) -> jax.Array:
    """``x`` minus its weighted mean, divided by its weighted standard deviation; near 0 where all ``x`` are equal."""
    sample = of_sample(x, weight)
    return (x - sample.mean) / deviation(sample)


def explained_variance(value: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
    """Share of the targets' variance that the values explain, ``1 − Σ w (G − V)² / Σ w (G − mean G)²``: ``f32[]``.

    The result is 1 where values and targets are equal, and 0 where the targets' mean would predict as well. Anything
    below -1 becomes -1. Where the targets do not vary, there is nothing to explain, and the result is 0.
    """
    sample = of_sample(target, weight)
    residual = jnp.sum(weight * jnp.square(target - value))
    varies = sample.squares > sample.number * jnp.square(RELATIVE_ROUNDING * sample.mean)
    share = 1 - residual / jnp.where(varies, sample.squares, 1.0)
    return jnp.where(varies, jnp.clip(share, -1.0, 1.0), 0.0)
