"""Losses against rlax and by hand; steps without weight change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from scipy.special import rel_entr

from jaxpg.learners import losses

B, A = 20, 4
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(B, A)).astype(np.float32)
ACTION = RNG.integers(A, size=B)
ADVANTAGE = RNG.normal(size=B).astype(np.float32)
ONES = np.ones(B, np.float32)


def _log_prob(logits: jax.Array) -> jax.Array:
    return losses.log_prob_of(logits, ACTION)


def test_log_prob_by_hand() -> None:
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_log_prob(LOGITS), np.log(probability[np.arange(B), ACTION]), rtol=1e-5)


def test_policy_gradient_is_rlaxs() -> None:
    def ours(logits):
        return losses.policy_gradient_loss(_log_prob(logits), ADVANTAGE, ONES) / B

    def theirs(logits):
        return rlax.policy_gradient_loss(logits, ACTION, ADVANTAGE, ONES)

    np.testing.assert_allclose(ours(LOGITS), theirs(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(ours)(LOGITS), jax.grad(theirs)(LOGITS), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_clipped_ratio_is_rlaxs(epsilon: float) -> None:
    old = _log_prob(LOGITS + RNG.normal(scale=0.3, size=(B, A)).astype(np.float32))

    def ours(logits):
        return losses.clipped_ratio_loss(_log_prob(logits), old, ADVANTAGE, ONES, epsilon) / B

    def theirs(logits):
        return rlax.clipped_surrogate_pg_loss(jnp.exp(_log_prob(logits) - old), ADVANTAGE, epsilon)

    np.testing.assert_allclose(ours(LOGITS), theirs(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(ours)(LOGITS), jax.grad(theirs)(LOGITS), rtol=1e-4, atol=1e-7)


def test_at_ratio_one_the_clipped_gradient_is_reinforce() -> None:
    old = _log_prob(LOGITS)
    clipped = jax.grad(lambda x: losses.clipped_ratio_loss(_log_prob(x), old, ADVANTAGE, ONES, 0.2))(LOGITS)
    plain = jax.grad(lambda x: losses.policy_gradient_loss(_log_prob(x), ADVANTAGE, ONES))(LOGITS)
    np.testing.assert_allclose(clipped, plain, rtol=1e-5, atol=1e-7)


def test_no_gradient_flows_into_the_advantage() -> None:
    log_prob = _log_prob(LOGITS)
    plain = jax.grad(lambda advantage: losses.policy_gradient_loss(log_prob, advantage, ONES))
    clipped = jax.grad(lambda advantage: losses.clipped_ratio_loss(log_prob, log_prob, advantage, ONES, 0.2))
    assert not plain(ADVANTAGE).any()
    assert not clipped(ADVANTAGE).any()


def test_entropy_by_hand_and_log_a_when_uniform() -> None:
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(losses.entropy(LOGITS), -(probability * np.log(probability)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(losses.entropy(jnp.zeros((1, A))), np.log(A), rtol=1e-6)


def test_value_loss_and_its_gradient_by_hand() -> None:
    value, target, weight = jnp.array([1.0, 2.0, 5.0]), jnp.array([3.0, 2.0, 1.0]), jnp.array([1.0, 1.0, 0.0])
    assert losses.value_loss(value, target, weight) == 2.0
    gradient = jax.grad(losses.value_loss, argnums=(0, 1))(value, target, weight)
    assert gradient[0].tolist() == [-2.0, 0.0, 0.0]
    assert gradient[1].tolist() == [0.0, 0.0, 0.0]


def test_steps_without_weight_change_nothing() -> None:
    padding = np.full(7, 1e3, np.float32)
    x, weight = np.concatenate([ADVANTAGE, padding]), np.concatenate([ONES, 0 * padding])
    assert losses.weighted_mean(x, weight) == pytest.approx(ADVANTAGE.mean(), rel=1e-5)
    np.testing.assert_allclose(losses.standardise(x, weight)[:B], losses.standardise(ADVANTAGE, ONES), rtol=1e-4)
    for loss in (losses.policy_gradient_loss, losses.value_loss):
        padded = loss(np.concatenate([_log_prob(LOGITS), padding]), x, weight)
        np.testing.assert_allclose(padded, loss(_log_prob(LOGITS), ADVANTAGE, ONES), rtol=1e-5)
    assert losses.weighted_mean(ADVANTAGE, 0 * ONES) == 0.0


def test_standardise_gives_mean_0_and_deviation_1() -> None:
    result = losses.standardise(jnp.asarray(ADVANTAGE * 9 + 4), ONES)
    assert result.mean() == pytest.approx(0, abs=1e-5)
    assert result.std() == pytest.approx(1, rel=1e-4)
    assert not losses.standardise(jnp.full(5, 3.0), jnp.ones(5)).any(), "nothing to scale is no NaN"


def test_what_is_constant_up_to_rounding_is_not_blown_up() -> None:
    """The mean of so many equal numbers is off by float32's rounding, which must not become the scale."""
    constant = jnp.full(10_000, 10_000.1)
    assert jnp.abs(losses.standardise(constant, jnp.ones(10_000))).max() < 0.5


def test_ratios_of_policies_far_apart_stay_finite() -> None:
    old, new = jnp.array([-200.0, -1e-6]), jnp.array([-1e-6, -200.0])
    for advantage in (1.0, -1.0):

        def loss(log_prob, advantage=advantage):
            return losses.clipped_ratio_loss(log_prob, old, jnp.full(2, advantage), jnp.ones(2), 0.2)

        assert jnp.isfinite(loss(new))
        assert jnp.isfinite(jax.grad(loss)(new)).all()
    assert jnp.isfinite(losses.kl_estimate(new, old)).all()


def test_the_kl_estimate_is_never_negative_and_its_mean_is_the_divergence() -> None:
    near = np.linspace(-1e-3, 1e-3, 2001, dtype=np.float32)
    assert (losses.kl_estimate(near, jnp.zeros(2001)) >= 0).all()
    log_p, log_q = np.asarray(jax.nn.log_softmax(jnp.asarray(LOGITS[:2])))
    expected = jnp.sum(jnp.exp(log_p) * losses.kl_estimate(log_q, log_p))
    assert expected == pytest.approx(rel_entr(np.exp(log_p), np.exp(log_q)).sum(), rel=1e-4)


def test_explained_variance_stays_between_minus_1_and_1() -> None:
    target = jnp.asarray(10_000 + ADVANTAGE)
    mean = target.mean()
    weight = jnp.asarray(np.r_[np.ones(B - 1), 0.0], jnp.float32)  # the last one has no say, whatever it is
    assert losses.explained_variance(target.at[-1].set(0), target, weight) == 1
    assert losses.explained_variance(jnp.full(B, mean), target, jnp.asarray(ONES)) == pytest.approx(0, abs=1e-3)
    assert losses.explained_variance((target + mean) / 2, target, jnp.asarray(ONES)) == pytest.approx(0.75, abs=1e-3)
    assert losses.explained_variance(jnp.zeros(B), target, weight) == -1
    for constant in (0.0, 10_000.1, -1e-8):  # nothing to explain
        assert losses.explained_variance(jnp.zeros(B), jnp.full(B, constant), weight) == 0
    assert losses.explained_variance(jnp.zeros(B), target, 0 * weight) == 0


def test_a_clipped_probability_teaches_nothing_beyond_its_clip() -> None:
    logits = jnp.log(jnp.array([[0.99, 0.01], [0.01, 0.99], [0.6, 0.4]]))
    action = jnp.zeros(3, int)

    def clipped(logits):
        return losses.clip_probability(losses.log_prob_of(logits, action), 0.05)

    np.testing.assert_allclose(jnp.exp(clipped(logits)), [0.95, 0.05, 0.6], rtol=1e-5)
    gradient = jax.grad(lambda x: clipped(x).sum())(logits)
    free = jax.grad(lambda x: losses.log_prob_of(x, action).sum())(logits)
    np.testing.assert_allclose(gradient, [[0, 0], [0, 0], free[2]], atol=1e-6)
