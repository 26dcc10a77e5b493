"""Optimizers by name are Optax's own, with the schedule and the clipping that were asked for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpg.config import Config, RunConfig, schedule_progress
from jaxpg.core.errors import UserError
from jaxpg.learners.optimizers import OptimizerConfig, available, learning_rate_at, make_optimizer

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0])}
GRADIENTS = [{"w": jnp.asarray(np.random.default_rng(i).normal(size=3), jnp.float32)} for i in range(5)]


def _walk(optimizer: optax.GradientTransformationExtraArgs) -> list[np.ndarray]:
    params, state, path = PARAMS, optimizer.init(PARAMS), []
    for gradient in GRADIENTS:
        updates, state = optimizer.update(gradient, state, params, learning_rate=0.1)
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
    ours = make_optimizer(OptimizerConfig(name=config.name, options=config.options, max_gradient_norm=0.0))
    np.testing.assert_allclose(_walk(ours), _walk(optax.with_extra_args_support(direct)), rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_are_optaxs_by_the_share_that_is_over(schedule: str) -> None:
    config = OptimizerConfig(learning_rate=3e-4, schedule=schedule, final_learning_rate_fraction=0.2)
    theirs = {
        "constant": optax.constant_schedule(3e-4),
        "linear": optax.linear_schedule(3e-4, 0.2 * 3e-4, 1000),
        "cosine": optax.cosine_decay_schedule(3e-4, 1000, alpha=0.2),
    }[schedule]
    for count in (0, 1, 250, 500, 999, 1000):
        assert learning_rate_at(config, count / 1000) == pytest.approx(float(theirs(count)), rel=1e-5)


def test_progress_is_a_function_of_agent_steps_alone_also_of_more_than_32_bits() -> None:
    config = Config(run=RunConfig(budget_agent_steps=2**53, schedule_agent_steps=2**52))
    assert [schedule_progress(config, n) for n in (0, 2**51, 2**52, 2**53)] == [0.0, 0.5, 1.0, 1.0]
    assert schedule_progress(Config(run=RunConfig(budget_agent_steps=10)), 4) == 0.4, "0 is the whole budget"


def test_large_gradients_are_scaled_to_the_norm_and_small_ones_left_alone() -> None:
    optimizer = make_optimizer(OptimizerConfig(name="sgd", max_gradient_norm=0.5))
    update = functools.partial(optimizer.update, state=optimizer.init(PARAMS), params=PARAMS, learning_rate=1.0)
    large, _ = update({"w": jnp.array([3.0, 4.0, 0.0])})
    np.testing.assert_allclose(large["w"], [-0.3, -0.4, 0.0], rtol=1e-6)
    small, _ = update({"w": jnp.array([0.03, 0.04, 0.0])})
    np.testing.assert_allclose(small["w"], [-0.03, -0.04, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(available()))
def test_every_name_that_is_offered_makes_a_step_of_the_rate_that_it_is_given(name: str) -> None:
    optimizer = make_optimizer(OptimizerConfig(name=name))
    compiled = []

    @jax.jit
    def update(rate):
        compiled.append(rate)
        return optimizer.update(GRADIENTS[0], optimizer.init(PARAMS), PARAMS, learning_rate=rate)[0]

    small, large = update(np.float32(1e-4)), update(np.float32(1e-2))
    assert len(compiled) == 1
    assert np.isfinite(large["w"]).all()
    assert 0 < optax.tree.norm(small) < optax.tree.norm(large)


def test_wrong_names_and_options_are_the_users_errors() -> None:
    assert {"adam", "rmsprop", "sgd"} <= set(available())
    with pytest.raises(UserError, match="optimizer.name: .*'rmsprop'"):
        make_optimizer(OptimizerConfig(name="rmspop"))
    with pytest.raises(UserError, match="optimizer.options of adam: .*'eps'"):
        make_optimizer(OptimizerConfig(name="adam", options={"epz": 0.9}))
