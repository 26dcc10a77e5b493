"""Computes returns for the agent steps of one lane; the caller vmaps over lanes."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

RewardTransform = Literal["none", "clip", "root"]


def transformed(reward: jax.Array, transform: RewardTransform) -> jax.Array:
    """Transforms rewards (any shape) for the learner, before ``reward_scale`` is applied.

    With clipped rewards, a ghost in Ms. Pac-Man is worth no more than a pellet. Without a transform, rare large rewards
    drown the others. The signed root ``sign(r) (sqrt(|r| + 1) - 1)`` keeps the order of rewards and compresses their
    size (Pohlen et al. 2018, section 3.2, without the linear term).
    """
    match transform:
        case "none":
            return reward
        case "clip":
            return jnp.clip(reward, -1, 1)
        case "root":
            return jnp.sign(reward) * (jnp.sqrt(jnp.abs(reward) + 1) - 1)


def lambda_returns(reward: jax.Array, discount: jax.Array, value: jax.Array, lambda_: jax.Array) -> jax.Array:
    """Computes TD(λ) returns-to-go, which trade the variance of the full return against the bias of the value.

    ``G_t = r_t + γ_t · ((1 − λ_t) · V_{t+1} + λ_t · G_{t+1})``, with ``G_T = V_T``. With λ = 1 and V = 0, ``G_t`` is
    the discounted return-to-go. With λ = 0, ``G_t`` is the one-step target. A discount of 0 ends the credit.

    Args:
      reward: ``f32[T]``, the reward of agent steps 0 to T-1.
      discount: ``f32[T]``, γ_t, the weight of what follows agent step t.
      value: ``f32[T+1]``, the values of observations 0 to T; the last value is the bootstrap.
      lambda_: ``f32[T]`` in [0, 1].

    Returns:
      ``f32[T]``. Source: Sutton and Barto (2018), section 12.1 and equation 12.18.
    """

    def step(following: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        r, gamma, next_value, lam = inputs
        result = r + gamma * ((1 - lam) * next_value + lam * following)
        return result, result

    _, returns = jax.lax.scan(step, value[-1], (reward, discount, value[1:], lambda_), reverse=True)
    return returns


def credit(
    reward: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    life_lost: jax.Array,
    acted: jax.Array,
    *,
    discount: float,
    lambda_: float,
    cut_at_reward: bool,
    cut_at_life_loss: bool,
) -> tuple[jax.Array, jax.Array]:
    """Computes the discounts and lambdas that end the credit at the right agent steps.

    - A termination ends the credit: γ_t = 0. So do, by option, a lost life and any nonzero reward (in Pong a point).
    - A truncation bootstraps fully from the value of the episode's last observation: λ_t = 0. The emulator gives that
      observation at the autoreset step t+1, so its value is ``value[t+1]``.
    - At the autoreset step itself γ_t = 0, so no credit crosses it. Its weight in every loss is 0.

    Args:
      reward: ``f32[T]``.
      terminated: ``bool[T]``, the episode is over.
      truncated: ``bool[T]``, the time limit cut the episode.
      life_lost: ``bool[T]``, a life was lost and the episode goes on.
      acted: ``bool[T]``, False on autoreset steps.
      discount: γ of all other agent steps.
      lambda_: λ of agent steps that are not truncated.
      cut_at_reward: whether a nonzero reward ends the credit.
      cut_at_life_loss: whether a lost life ends the credit.

    Returns:
      ``(discount f32[T], lambda f32[T])`` for ``lambda_returns``.
    """
    ends = terminated | ~acted
    if cut_at_reward:
        ends = ends | (reward != 0)
    if cut_at_life_loss:
        ends = ends | life_lost
    return jnp.where(ends, 0.0, discount), jnp.where(truncated, 0.0, lambda_)


def total_minus_step(reward: jax.Array, ended: jax.Array, acted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A beginner's credit, kept for comparison: the return of the whole episode minus the agent step's number in it.

    This credit rewards an action for what came before it, and favours early agent steps. The estimate of the policy
    gradient is therefore biased. The right credit is the return-to-go.

    Args:
      reward: ``f32[T]``.
      ended: ``bool[T]``, whether the episode ended with this agent step.
      acted: ``bool[T]``, False on the autoreset steps between episodes.

    Returns:
      ``(credit f32[T], weight f32[T])``. The weight is 1 only for episodes that lie within these T agent steps: they
      begin after an autoreset step and end.
    """

    def forward(carry: Any, inputs: Any) -> tuple[Any, Any]:
        begun, number, total = carry
        r, acts = inputs
        here = (begun, number, total + r)
        following = (begun | ~acts, jnp.where(acts, number + 1, 0.0), jnp.where(acts, total + r, 0.0))
        return following, here

    nothing = (jnp.array(False), jnp.zeros(()), jnp.zeros(()))
    _, (begun, number, total) = jax.lax.scan(forward, nothing, (reward, acted))

    def backward(carry: Any, inputs: Any) -> tuple[Any, Any]:
        is_end, acts, so_far = inputs
        finishes, whole = carry
        finishes, whole = (finishes & acts) | is_end, jnp.where(is_end, so_far, whole)
        return (finishes, whole), (finishes, whole)

    _, (finishes, whole) = jax.lax.scan(backward, nothing[:2], (ended, acted, total), reverse=True)
    return whole - number, (begun & finishes & acted).astype(jnp.float32)
