"""What XLA compiles on CPU computes the numbers that NumPy computes, at sizes where a library of XLA's has failed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.learners import losses
from jaxpg.learners.statistics import of_sample
from jaxpg.policies.networks import PolicyConfig, make_policy

ROWS = [32_768, 32_769, 40_000]
"""jaxlib 0.10.2 computed sums wrong from row 32,769 on (https://github.com/jax-ml/jax/issues/39103)."""


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_a_product_that_is_squared_and_summed_is_right_in_every_row(rows: int, width: int) -> None:
    matrix, vectors = normal(width, 3), normal(rows, 3)
    ours = jax.jit(jax.vmap(lambda vector: jnp.sum(jnp.square(matrix @ vector))))(vectors)
    wanted = np.square(vectors.astype(np.float64) @ matrix.T).sum(1)
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(32_769, 3), (1, 32_769), (2, 3, 1, 5, 1, 7, 3), (3, 1, 2, 1, 2, 1, 2, 5)])
def test_sums_over_each_axis_are_right_at_odd_shapes(shape: tuple[int, ...]) -> None:
    values = normal(*shape)
    for axis in range(len(shape)):
        ours = jax.jit(lambda x, axis=axis: jnp.sum(jnp.square(x - x.mean(axis, keepdims=True)), axis))(values)
        wanted = values.astype(np.float64)
        wanted = np.square(wanted - wanted.mean(axis, keepdims=True)).sum(axis)
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)


def test_acting_and_its_gradient_are_right_in_every_row() -> None:
    """Compiled at once they equal what JAX computes operation by operation."""
    rows = 32_769
    policy = make_policy(PolicyConfig(hidden=(5,)), (3,), 2, value=True)
    params, observations, actions = policy.init(jax.random.key(0)), normal(rows, 3), np.arange(rows) % 2

    def loss(params, observations):
        logits, value = policy.apply(params, observations)
        chosen = losses.log_prob_of(logits, actions)
        return jnp.sum(chosen * value) + jnp.sum(jnp.square(value)) + losses.entropy(logits).sum(), (logits, value)

    gradient = jax.grad(loss, has_aux=True)
    ours, (logits, value) = jax.jit(gradient)(params, observations)
    with jax.disable_jit():
        wanted, (wanted_logits, wanted_value) = gradient(params, observations)
    np.testing.assert_allclose(logits, wanted_logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2), ours, wanted)


def test_a_batchs_mean_and_deviation_are_right() -> None:
    rows = 32_769
    values = normal(rows) + 3
    sample = jax.jit(of_sample)(values, jnp.ones(rows))
    np.testing.assert_allclose(sample.mean, values.astype(np.float64).mean(), rtol=1e-5)
    np.testing.assert_allclose(sample.squares, rows * values.astype(np.float64).var(), rtol=1e-4)
