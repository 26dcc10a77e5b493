"""Optimizers by name are Optax's own, with the schedule and the clipping that were asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpg.errors import UserError
from jaxpg.optimizers import OptimizerConfig, available, make_optimizer

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0])}
GRADIENTS = [{"w": jnp.asarray(np.random.default_rng(i).normal(size=3), jnp.float32)} for i in range(5)]


def _walk(optimizer: optax.GradientTransformation) -> list[np.ndarray]:
    params, state, path = PARAMS, optimizer.init(PARAMS), []
    for gradient in GRADIENTS:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(params["w"]))
    return path


@pytest.mark.parametrize(
    ("config", "direct"),
    [
        (OptimizerConfig(name="adam", options={"eps": 1e-5}), optax.adam(0.1, eps=1e-5)),
        (OptimizerConfig(name="rmsprop", options={"decay": 0.99}), optax.rmsprop(0.1, decay=0.99)),
        (OptimizerConfig(name="sgd", options={"momentum": 0.9}), optax.sgd(0.1, momentum=0.9)),
    ],
    ids=lambda x: x.name if isinstance(x, OptimizerConfig) else "",
)
def test_by_name_is_optax_directly(config: OptimizerConfig, direct: optax.GradientTransformation) -> None:
    settings = {"learning_rate": 0.1, "schedule": "constant", "max_gradient_norm": 0.0}
    ours = make_optimizer(OptimizerConfig(name=config.name, options=config.options, **settings), 10)
    np.testing.assert_allclose(_walk(ours), _walk(direct), rtol=1e-6)


@pytest.mark.parametrize(("schedule", "halfway"), [("constant", 1.0), ("linear", 0.6), ("cosine", 0.6)])
def test_schedules_start_and_end_where_they_should(schedule: str, halfway: float) -> None:
    config = OptimizerConfig(
        name="sgd", learning_rate=1.0, schedule=schedule, final_learning_rate_fraction=0.2, max_gradient_norm=0.0
    )
    optimizer = make_optimizer(config, schedule_updates=10)
    state, steps = optimizer.init(PARAMS), []
    for _ in range(15):
        updates, state = optimizer.update({"w": jnp.ones(3)}, state, PARAMS)
        steps.append(-float(updates["w"][0]))
    end = 1.0 if schedule == "constant" else 0.2
    assert [steps[0], steps[5], steps[10], steps[14]] == pytest.approx([1.0, halfway, end, end])


def test_large_gradients_are_scaled_to_the_norm_and_small_ones_left_alone() -> None:
    optimizer = make_optimizer(
        OptimizerConfig(name="sgd", learning_rate=1.0, schedule="constant", max_gradient_norm=0.5), 1
    )
    large, _ = optimizer.update({"w": jnp.array([3.0, 4.0, 0.0])}, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(large["w"], [-0.3, -0.4, 0.0], rtol=1e-6)
    small, _ = optimizer.update({"w": jnp.array([0.03, 0.04, 0.0])}, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(small["w"], [-0.03, -0.04, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(available()))
def test_every_name_that_is_offered_makes_a_step(name: str) -> None:
    optimizer = make_optimizer(OptimizerConfig(name=name), 10)
    updates, _ = optimizer.update(GRADIENTS[0], optimizer.init(PARAMS), PARAMS)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


def test_wrong_names_and_options_are_the_users_errors() -> None:
    assert {"adam", "rmsprop", "sgd"} <= set(available())
    with pytest.raises(UserError, match="optimizer.name: .*'rmsprop'"):
        make_optimizer(OptimizerConfig(name="rmspop"), 1)
    with pytest.raises(UserError, match="optimizer.options of adam: .*'eps'"):
        make_optimizer(OptimizerConfig(name="adam", options={"epz": 0.9}), 1)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_may_span_more_updates_than_optax_counts(schedule):
    first, *_, last = _walk(make_optimizer(OptimizerConfig(schedule=schedule), 2**53))
    assert np.isfinite(first).all()
    assert (first != last).all()
