"""A whole iteration as one program: it equals playing and learning in parts, and members equal single runs."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import RECIPES, Config, load_recipe
from jaxpg.core.types import EmulatorNeeds, InJax
from jaxpg.envs import register_jax_environment
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.jax_lanes import JaxLanes
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.act import make_act
from jaxpg.kernel.jax_iteration import make_iteration
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import FixedPopulation
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from tests.helpers import rounded_products
from tests.kernel.test_jax_rollout import walk

pytestmark = pytest.mark.usefixtures("quick_compilation")
register_jax_environment("walk")(lambda config: walk())
LANES, STEPS = 4, 8
CONFIG = Config(
    env=EnvConfig(backend="walk", num_lanes=LANES, max_episode_agent_steps=9),
    observation=ObservationConfig(name="vector"),
    policy=PolicyConfig(hidden=(8,)),
    reinforce=ReinforceConfig(
        rollout_agent_steps=STEPS,
        td_lambda=0.9,
        epochs=2,
        minibatch_agent_steps=16,
        normalize_observations=True,
        normalize_value=True,
    ),
    optimizer=OptimizerConfig(learning_rate=0.01),
)


def first_state(experiment: Experiment, seed: int):
    init_key, learner_key, _ = jax.random.split(jax.random.key(seed), 3)
    return experiment.learner.init(learner_key, experiment.policy.init(init_key))


def in_parts(experiment: Experiment, state, key: jax.Array, progress: float):
    """As with emulators: the rollout, and then the updates one by one from Python."""
    population = experiment.learner.ask(state, jnp.zeros(1, jnp.int32))
    experience, _ = experiment.rollout.collect(FixedPopulation(population, LANES), STEPS, key)
    state, metrics = experiment.learner.tell(state, [experience], experience.episodes, progress)
    return state, experience, metrics


def test_one_program_is_playing_and_learning_in_parts() -> None:
    """The same actions, ends, weights and metrics, over iterations whose episodes overlap."""
    whole, parts = build(CONFIG), build(CONFIG)
    ours, theirs = first_state(whole, 1), first_state(parts, 1)
    for experiment in (whole, parts):
        experiment.rollout.reset(lane_seeds(1, 0, LANES))
    for number in range(3):
        key, progress = jax.random.key(number), number / 4
        ours, played, metrics = whole.whole_iterations(ours, key, progress)
        theirs, wanted, wanted_metrics = in_parts(parts, theirs, key, progress)
        jax.tree.map(np.testing.assert_array_equal, played._replace(tape=None), wanted._replace(tape=None))
        assert metrics.keys() == wanted_metrics.keys()
        for name in metrics:
            np.testing.assert_allclose(metrics[name], wanted_metrics[name], rtol=1e-4, atol=1e-6, err_msg=name)
        plain, wanted_plain = (state._replace(key=jax.random.key_data(state.key)) for state in (ours, theirs))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), plain, wanted_plain)
    assert len(played.episodes.lane)


def test_the_second_iteration_compiles_nothing() -> None:
    """A state that is bound to its device, as training's is, must not meet lanes that are not."""
    experiment = build(CONFIG)
    experiment.rollout.reset(lane_seeds(1, 0, LANES))
    state = jax.device_put(first_state(experiment, 1), jax.devices()[0])
    for number in range(2):
        state, *_ = experiment.whole_iterations(state, jax.random.key(number), 0.0)
    assert experiment.whole_iterations._iterate._cache_size() == 1


@pytest.mark.parametrize("policy", ["mlp", pytest.param("small_conv", marks=pytest.mark.long)])
def test_members_in_one_program_equal_single_runs(policy: str) -> None:
    """Each has its own seed, so also its own weights, games and minibatches."""
    seeds = range(3, 11)
    config = replace(CONFIG, reinforce=replace(CONFIG.reinforce, normalize_observations=False))
    needs = EmulatorNeeds(kind="vector")
    if policy == "small_conv":
        config = replace(
            config,
            env=replace(config.env, backend="walk in pictures"),
            observation=ObservationConfig(name="picture"),
            policy=PolicyConfig(name="small_conv"),
        )
        needs = EmulatorNeeds(kind="picture")
    single = build(config)
    (one,) = single.rollout.pools
    assert isinstance(one, JaxLanes)
    pool = JaxLanes(config.env, one._environment, needs, len(seeds) * LANES)
    act = make_act(single.policy, single.observation, pool.spec.axes, pool.num_lanes)
    iterate = jax.jit(make_iteration(act, pool, single.learner, single.rollout.encoded, STEPS))
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(first_state(single, seed) for seed in seeds))
    pool.reset(np.concatenate([lane_seeds(seed, 0, LANES) for seed in seeds]))
    keys = jnp.stack([jax.random.key(100 + seed) for seed in seeds])
    scheduled = {name: jnp.full(len(seeds), value) for name, value in single.learner.scheduled(0.5).items()}
    first = iterate(state, pool.lanes, keys, scheduled)
    second = iterate(first.state, first.lanes, keys, scheduled)
    for member, seed in enumerate(seeds):
        alone = first_state(single, seed)
        single.rollout.reset(lane_seeds(seed, 0, LANES))
        for iterated in (first, second):
            alone, played, metrics = single.whole_iterations(alone, jax.random.key(100 + seed), 0.5)
            own = slice(member * LANES, (member + 1) * LANES)
            np.testing.assert_array_equal(iterated.answers.reward[:, own], played.reward)
            for name in metrics:
                np.testing.assert_allclose(iterated.metrics[name][member], metrics[name], rtol=1e-4, atol=1e-5)
        weights = jax.tree.map(lambda x, member=member: x[member], second.state.params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), weights, alone.params)


@register_jax_environment("walk in pictures")
def walk_in_pictures(config: EnvConfig):
    """The same, seen as a picture of 3 x 3."""
    reset, step = walk()[:2]

    def draw(seen):
        return jnp.zeros((3, 3)).at[:2, 0].set(seen)

    def begin(key):
        state, seen = reset(key)
        return state, draw(seen)

    def go_on(key, state, action):
        state, answer = step(key, state, action)
        return state, answer._replace(observation=draw(answer.observation))

    return walk()._replace(reset=begin, step=go_on)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("recipe", ["cartpole", "minatar"])
def test_the_iteration_of_every_recipe_in_jax_is_lowered_for_accelerators(
    recipe: str, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    config = load_recipe(RECIPES / f"{recipe}.yaml")
    config = replace(config, env=replace(config.env, backend="gymnax"))
    experiment = build(config)
    (pool,) = experiment.rollout.pools
    assert isinstance(pool, InJax)
    iterate = make_iteration(
        experiment.rollout.act, pool, experiment.learner, experiment.rollout.encoded, experiment.rollout_agent_steps
    )

    def of_data(state, lanes, key, scheduled):  # jax.export takes no typed keys
        iterated = iterate(
            state._replace(key=jax.random.wrap_key_data(state.key)), lanes, jax.random.wrap_key_data(key), scheduled
        )
        return iterated._replace(state=iterated.state._replace(key=jax.random.key_data(iterated.state.key)))

    state = jax.eval_shape(lambda: jax.tree.map(lambda x: x[None], first_state(experiment, 1)))
    state = state._replace(key=jax.ShapeDtypeStruct((1, 2), jnp.uint32))
    scheduled = {name: jax.ShapeDtypeStruct((1,), jnp.float32) for name in experiment.learner.scheduled(0.0)}
    keys = jax.ShapeDtypeStruct((1, 2), jnp.uint32)
    exported = jax.export.export(jax.jit(of_data), platforms=[platform])(state, pool.lanes, keys, scheduled)
    assert exported.platforms == (platform,)
    assert "callback" not in exported.mlir_module()
    assert rounded_products(exported.mlir_module()) == []
