"""The gradient in two halves: what acting keeps gives the gradient that JAX computes at once, and saves the pass."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpg.activations import Activations, make_activations
from jaxpg.config import Config
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import build, lane_seeds
from jaxpg.observations import Observation
from jaxpg.policies import PolicyConfig, make_policy, with_normalizer
from jaxpg.types import EmulatorNeeds, PolicyFunctions
from tests.helpers import probe_config
from tests.learners.test_reinforce import PLAIN

pytestmark = pytest.mark.usefixtures("quick_compilation")  # both sides of what is compared are compiled under it
ACTIONS, LANES = 3, 4
RNG = np.random.default_rng(0)
BYTES = Observation(EmulatorNeeds(kind="pixels", height=36, width=36, stack=2), encode=lambda x: x, decode=lambda x: x)


def _convolution() -> PolicyFunctions:
    """As an accelerator has it: a convolution whose rule for batches merges the lanes with its own batch of one."""

    def apply_one(params, x):
        picture = x.astype(jnp.float32)[None]
        seen = jax.lax.conv_general_dilated(
            picture, params["filters"], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden = jnp.tanh(seen[0].transpose(2, 1, 0)).reshape(-1) @ params["out"]
        return hidden[:ACTIONS], hidden[ACTIONS]

    def apply(params, x):
        return jax.vmap(apply_one, in_axes=(None, 0))(params, x) if x.ndim == 4 else apply_one(params, x)

    def init(key):
        filters, out = jax.random.split(key)
        return {
            "filters": 0.01 * jax.random.normal(filters, (8, 8, 2, 5)),
            "out": jax.random.normal(out, (8 * 8 * 5, ACTIONS + 1)),
        }

    return PolicyFunctions(init, apply, has_value=True)


def _policy(name: str) -> PolicyFunctions:
    if name == "convolution":
        return _convolution()
    if name == "normalised":
        return with_normalizer(make_policy(PolicyConfig(name="mlp"), (36, 36, 2), ACTIONS, value=True), (36, 36, 2))
    precision = "bfloat16" if name == "nature in bfloat16" else "float32"
    config = PolicyConfig(name=name.split(maxsplit=1)[0], hidden=(20, 10), layer_norm=True, precision=precision)
    return make_policy(config, (36, 36, 2), ACTIONS, value=True)


def _halves(policy: PolicyFunctions) -> tuple[Activations, optax.Params]:
    params = jax.jit(policy.init)(jax.random.key(1))
    return make_activations(policy, BYTES, jax.ShapeDtypeStruct((36, 36, 2), jnp.uint8), params), params


def _seen(number: int) -> jax.Array:
    return jnp.asarray(RNG.integers(0, 256, (number, 36, 36, 2), dtype=np.uint8))


@pytest.mark.parametrize("name", ["linear", "mlp", "nature", "nature in bfloat16", "normalised", "convolution"])
def test_both_halves_together_are_the_gradient(name: str) -> None:
    policy = _policy(name)
    activations, params = _halves(policy)
    seen = _seen(3 * LANES)
    weights = (RNG.normal(size=(3 * LANES, ACTIONS)).astype(np.float32), RNG.normal(size=3 * LANES).astype(np.float32))

    def loss(params):
        logits, value = jax.vmap(lambda x: policy.apply(params, x))(seen)
        return (logits * weights[0]).sum() + (value * weights[1]).sum(), (logits, value)

    whole, outputs = jax.jit(jax.grad(loss, has_aux=True))(params)
    forward = jax.jit(activations.forward)
    passes = [forward(params, part) for part in jnp.split(seen, 3)]
    for ours, theirs in zip(jax.tree.map(lambda *x: jnp.concatenate(x), *(p[0] for p in passes)), outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    kept = tuple(jnp.concatenate(leaves) for leaves in zip(*(p[1] for p in passes), strict=True))
    assert sum(x.nbytes for x in kept) == 3 * LANES * activations.num_bytes
    split = jax.jit(activations.backward)(params, seen, kept, weights)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale), split, whole)


@pytest.mark.parametrize("name", ["mlp", "nature"])
def test_the_second_half_computes_no_layer_again(name: str) -> None:
    policy = _policy(name)
    activations, params = _halves(policy)
    seen = _seen(LANES)
    outputs, kept = jax.jit(activations.forward)(params, seen)

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    def loss(params):
        logits, value = jax.vmap(lambda x: policy.apply(params, x))(seen)
        return (logits**2).sum() + (value**2).sum()

    first = flops(lambda params: jax.vmap(lambda x: policy.apply(params, x))(seen), params)
    second = flops(activations.backward, params, seen, kept, outputs)
    whole = flops(jax.grad(loss), params)
    assert second < whole - 0.7 * first


def test_what_takes_most_memory_is_not_kept() -> None:
    """Patches, pictures and weights are made again: kept is one number and one bit a unit, rounded up to a byte."""
    activations, _ = _halves(_policy("nature"))
    units = 8 * 8 * 32 + 3 * 3 * 64 + 64 + 512
    assert activations.num_bytes <= 5 * units
    assert _halves(_policy("linear"))[0].num_bytes == 0


def test_a_run_learns_the_same_with_and_without() -> None:
    """From two pools of eight lanes, four rows at a time."""
    reinforce = replace(PLAIN, chunk_agent_steps=64)
    config = probe_config("Match", reinforce)
    config = replace(config, env=replace(config.env, num_pools=2))
    keeps, again = build(config), build(replace(config, reinforce=replace(reinforce, activation_megabytes=0)))
    states = [
        jax.jit(experiment.learner.init)(jax.random.key(1), jax.jit(experiment.policy.init)(jax.random.key(0)))
        for experiment in (keeps, again)
    ]
    keeps.rollout.reset(lane_seeds(0, 0, config.env.num_lanes))
    for iteration in range(2):
        population = keeps.learner.ask(states[0], jnp.zeros(1, jnp.int32))
        experience, _ = keeps.rollout.collect(population, 16, jax.random.fold_in(jax.random.key(2), iteration))
        assert experience.kept is not None
        states = [
            experiment.learner.tell(state, [experience], experience.episodes, 0.0)[0]
            for experiment, state in zip((keeps, again), states, strict=True)
        ]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), states[0].params, states[1].params
        )
    for experiment in (keeps, again):
        experiment.fleet.close()


@pytest.mark.parametrize(
    "change",
    [{"epochs": 2, "minibatch_agent_steps": 64}, {"minibatch_agent_steps": 64}, {"activation_megabytes": 0}],
)
def test_nothing_is_kept_where_it_would_not_serve(change: dict[str, int]) -> None:
    config = probe_config("Match", replace(PLAIN, **change))
    experiment = build(config)
    experiment.rollout.reset(lane_seeds(0, 0, config.env.num_lanes))
    params = jax.tree.map(lambda x: x[None], experiment.policy.init(jax.random.key(0)))
    experience, _ = experiment.rollout.collect(params, 16, jax.random.key(2))
    experiment.fleet.close()
    assert experience.kept is None


def test_the_limit_is_that_of_all_rows_of_a_device() -> None:
    """MLP of 16 units: 80 bytes an agent step, here 1,000 lanes of 16."""

    def keeps(megabytes: int, lanes: int) -> bool:
        config = Config(
            env=EnvConfig(backend="probe", game="Match", num_lanes=lanes),
            observation=probe_config("Match", PLAIN).observation,
            policy=PolicyConfig(hidden=(16,)),
            reinforce=replace(PLAIN, activation_megabytes=megabytes),
        )
        experiment = build(config)
        experiment.fleet.close()
        return experiment.rollout._keeps_activations

    assert keeps(2, 1000)
    assert not keeps(1, 1000)
    assert keeps(1, 500)
