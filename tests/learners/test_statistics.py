"""The running mean and deviation against numpy in float64, where float32 has to be careful, and at their ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.learners.observation_statistics import moments
from jaxpg.learners.statistics import Statistics, deviation, follow, merge, no_statistics, of_sample, variance


def _samples(mean: float, std: float, number: int) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, std, size=(number, 64)).astype(np.float32)


@jax.jit
def _followed(batches: jax.Array, weights: jax.Array, decay: float) -> Statistics:
    def step(running: Statistics, batch: tuple[jax.Array, jax.Array]) -> tuple[Statistics, None]:
        return follow(running, of_sample(*batch), decay), None

    return jax.lax.scan(step, no_statistics(), (batches, weights))[0]


@pytest.mark.parametrize("mean", [0.0, -10_000.0, 1e6])
@pytest.mark.parametrize("decay", [0.5, 0.99, 1.0])
def test_the_running_deviation_is_numpys_also_where_the_mean_is_large(mean: float, decay: float) -> None:
    std = max(1.0, abs(mean) / 1e4)
    batches = _samples(mean, std, 500)
    running = _followed(batches, jnp.ones_like(batches), decay)
    weights = np.repeat(decay ** np.arange(499.0, -1, -1), 64)
    flat = batches.astype(np.float64).ravel()
    center = np.average(flat, weights=weights)
    assert running.mean == pytest.approx(center, abs=0.05 * std)
    expected = np.sqrt(np.average(np.square(flat - center), weights=weights))
    assert deviation(running) == pytest.approx(expected, rel=0.01)


def test_the_first_batch_alone_decides_at_the_start() -> None:
    (batch,) = _samples(50.0, 2.0, 1)
    running = follow(no_statistics(), of_sample(batch, jnp.ones(64)), 0.99)
    assert running.mean == pytest.approx(batch.mean(), rel=1e-6)
    assert deviation(running) == pytest.approx(batch.std(), rel=1e-5)


def test_batches_without_weight_change_nothing_however_many() -> None:
    batches = _samples(3.0, 2.0, 10_000)
    weights = np.zeros_like(batches)
    weights[0] = 1
    running = _followed(batches, weights, 0.9)
    assert [*map(float, running)] == [*map(float, of_sample(batches[0], jnp.ones(64)))]


def test_merging_is_the_same_as_seeing_all_at_once() -> None:
    x = _samples(7.0, 3.0, 9)
    weight = np.random.default_rng(1).integers(2, size=x.shape).astype(np.float32)
    parts = merge(of_sample(x[:2], weight[:2]), of_sample(x[2:], weight[2:]))
    np.testing.assert_allclose(parts, of_sample(x, weight), rtol=1e-5)
    assert variance(parts) == pytest.approx(x[weight > 0].var(), rel=1e-5)


def test_the_deviation_has_no_jump_and_never_divides_by_rounding() -> None:
    def std(variance: float, mean: float = 0.5) -> float:
        number = jnp.float32(1000.0)
        return float(moments(Statistics(number, jnp.float32(mean), number * variance))["std"])

    steps = np.array([std(x) for x in np.geomspace(1e-12, 1.0, 200)])
    assert (np.diff(steps) >= 0).all()
    assert (steps[1:] / steps[:-1] < 1.1).all()
    assert std(0.0) == pytest.approx(1e-4)
    assert std(0.0, mean=1e4) == pytest.approx(1e-2), (
        "what is constant at a large value differs from its mean by rounding"
    )
    assert moments(no_statistics((3,)))["std"].tolist() == [1, 1, 1], "inputs stay as they are before any was seen"
