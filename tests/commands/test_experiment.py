"""Players are built from what playing needs: no rule for training refuses one."""

import dataclasses

import jax
import pytest

from jaxpg.config import Config, RunConfig
from jaxpg.core.errors import UserError
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import Player, build
from jaxpg.learners.evolution import EvolutionConfig
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.random_search import RandomSearchConfig
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig

PROBE = Config(
    env=EnvConfig(game="Count", backend="probe", num_lanes=4),
    observation=ObservationConfig(name="vector"),
    policy=PolicyConfig(hidden=(4,)),
)
REFUSED_TO_TRAIN = {
    "lane groups": {"run": RunConfig(lane_groups=3)},
    "lambda": {"reinforce": ReinforceConfig(baseline="batch", td_lambda=0.9)},
    "weighting": {"reinforce": ReinforceConfig(weighting="total_minus_step")},
    "normalised value": {"reinforce": ReinforceConfig(baseline="none", normalize_value=True)},
    "a rollout too large for memory": {"reinforce": ReinforceConfig(rollout_agent_steps=2**31 - 1)},
    "top pairs": {
        "run": RunConfig(learner="evolution"),
        "evolution": EvolutionConfig(pairs=2, top_pairs=3),
        "optimizer": OptimizerConfig(schedule="constant"),
    },
    "finalists": {
        "run": RunConfig(learner="random_search"),
        "random_search": RandomSearchConfig(candidates=4, finalists=5),
    },
    "a queue too large for memory": {
        "run": RunConfig(learner="random_search"),
        "random_search": RandomSearchConfig(candidates=4, finalists=0, episodes_per_candidate=2**31 - 1),
    },
}


@pytest.mark.parametrize("change", REFUSED_TO_TRAIN.values(), ids=REFUSED_TO_TRAIN.keys())
def test_what_refuses_a_training_refuses_no_player(change: dict) -> None:
    config = dataclasses.replace(PROBE, **change)
    with pytest.raises(UserError):
        build(config)
    for env in (config.env, dataclasses.replace(config.env, num_lanes=1, num_pools=1)):
        build(config, Player(env)).rollout.close()


LEARNERS = {
    "reinforce": {
        "reinforce": ReinforceConfig(
            normalize_observations=True,
            normalize_value=True,
            epochs=2,
            minibatch_agent_steps=8,
            rollout_agent_steps=4,
            entropy_bonus=0.0,
        ),
        "optimizer": OptimizerConfig(name="rmsprop", options={"momentum": 0.9}),
    },
    "random_search": {"random_search": RandomSearchConfig(candidates=7, finalists=2, greedy=False)},
    "evolution": {
        "evolution": EvolutionConfig(pairs=3, normalize_observations=True, greedy=False, generations=5),
        "optimizer": OptimizerConfig(schedule="cosine"),
    },
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_players_learner_has_the_state_that_training_saves(name: str) -> None:
    config = dataclasses.replace(PROBE, run=RunConfig(learner=name), **LEARNERS[name])
    trained, plays = build(config), build(config, Player(dataclasses.replace(config.env, num_lanes=1)))
    key = jax.random.key(0)
    states = [jax.eval_shape(lambda one=one: one.learner.init(key, one.policy.init(key))) for one in (trained, plays)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    assert [x.shape for x in jax.tree.leaves(states[0])] == [x.shape for x in jax.tree.leaves(states[1])]
    assert plays.rollout.greedy == trained.rollout.greedy
    trained.rollout.close()
    plays.rollout.close()


@pytest.mark.parametrize(
    ("num_lanes", "num_pools", "num_threads", "pools"),
    [(4, 2, 0, 2), (3, 2, 0, 1), (1, 4, 0, 1), (6, 4, 0, 2), (32, 0, 0, 8), (2048, 0, 512, 1)],
)
def test_a_players_pools_divide_its_lanes(num_lanes: int, num_pools: int, num_threads: int, pools: int) -> None:
    env = dataclasses.replace(PROBE.env, num_lanes=num_lanes, num_pools=num_pools, num_threads=num_threads)
    experiment = build(PROBE, Player(env))
    assert [pool.num_lanes for pool in experiment.rollout.pools] == [num_lanes // pools] * pools
    experiment.rollout.close()


@pytest.mark.parametrize(
    ("observation", "reinforce", "remarks"),
    [
        ({}, {}, ()),
        ({"first_row": 3, "gain": 2.0}, {}, ("observation.first_row, observation.gain: no effect on vector",)),
        (
            {},
            {"cut_at_life_loss": True},
            ("reinforce.cut_at_life_loss: no effect, because Count has no lives",),
        ),
    ],
)
def test_a_setting_without_effect_is_named(observation: dict, reinforce: dict, remarks: tuple[str, ...]) -> None:
    config = dataclasses.replace(
        PROBE,
        observation=dataclasses.replace(PROBE.observation, **observation),
        reinforce=dataclasses.replace(PROBE.reinforce, **reinforce),
    )
    experiment = build(config)
    experiment.fleet.close()
    assert experiment.remarks == remarks
