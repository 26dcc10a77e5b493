"""REINFORCE with emulators: every variant learns on the probes, values are right, and nothing compiles anew."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.experiment import build
from jaxpg.learners.reinforce_config import ReinforceConfig
from tests.helpers import counted_compilations, learn, learn_probe, probe_config

PLAIN = ReinforceConfig(
    rollout_agent_steps=16, discount=0.9, cut_at_reward=False, entropy_bonus=0.003, baseline="value"
)
VARIANTS = {
    "value": PLAIN,
    "value, lambda 0.8": replace(PLAIN, td_lambda=0.8),
    "none": replace(PLAIN, baseline="none"),
    "batch": replace(PLAIN, baseline="batch"),
    "ema": replace(PLAIN, baseline="ema", ema_decay=0.9),
    "clipped epochs": replace(PLAIN, epochs=3, minibatch_agent_steps=64),
    "credit cut at reward": replace(PLAIN, cut_at_reward=True),
    "standardised inputs": replace(PLAIN, normalize_observations=True),
    "standardised values": replace(PLAIN, normalize_value=True),
}


PROBES = [(variant, "Recall") for variant in VARIANTS]
"""Who can recall can also match at once and play the bandit, whose answer is always the same: two variants show it."""
EASY = [(variant, game) for variant in ("value", "none") for game in ("Bandit", "Match")]


@pytest.mark.parametrize(("variant", "game"), EASY + PROBES)
def test_every_variant_solves_every_probe_of_control(variant: str, game: str) -> None:
    *_, returns = learn_probe(game, VARIANTS[variant], iterations=100)
    assert abs(returns[:20].mean() - 0.5) < 0.4, "the first policy is near uniform"
    assert returns[-50:].mean() >= 0.95


def _value(experiment, state, observation: list[float]) -> float:
    return float(experiment.policy.apply(state.params, jnp.array(observation))[1])


def test_values_of_games_of_one_step_are_their_rewards() -> None:
    config = replace(PLAIN, rollout_agent_steps=32, normalize_advantage=False)
    experiment, state, *_ = learn_probe("Constant", config, iterations=60)
    assert _value(experiment, state, [1, 1]) == pytest.approx(1.0, abs=0.05)
    experiment, state, *_ = learn_probe("Sign", config, iterations=60)
    assert _value(experiment, state, [1, 1]) == pytest.approx(1.0, abs=0.1)
    assert _value(experiment, state, [-1, 1]) == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize("td_lambda", [1.0, 0.0])
def test_the_value_before_a_later_reward_is_discounted(td_lambda: float) -> None:
    config = replace(PLAIN, td_lambda=td_lambda, rollout_agent_steps=6, normalize_advantage=False)
    experiment, state, *_ = learn_probe("Delay", config, iterations=300)
    assert _value(experiment, state, [1, 1.0]) == pytest.approx(0.9, abs=0.05), "one step before the reward"
    assert _value(experiment, state, [1, 0.5]) == pytest.approx(1.0, abs=0.05)


def test_truncation_bootstraps_so_that_an_endless_world_has_its_endless_value() -> None:
    experiment, state, *_ = learn_probe("Endless", replace(PLAIN, td_lambda=0.9, discount=0.8), iterations=300)
    assert _value(experiment, state, [1, 1]) == pytest.approx(1 / (1 - 0.8), rel=0.05)


def test_with_standardised_values_learning_does_not_depend_on_the_scale_of_rewards() -> None:
    learnt = []
    for scale in (1.0, 1000.0):
        config = replace(PLAIN, normalize_value=True, td_lambda=0.8, reward_scale=scale)
        _, state, *_ = learn_probe("Delay", config, iterations=20)
        learnt.append(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), *learnt)


def test_reported_returns_are_of_whole_games() -> None:
    *_, returns = learn_probe("Count", replace(PLAIN, reward_transform="clip"), iterations=10)
    assert set(returns) == {1 + 2 + 3 + 4 + 5}, "the score is unclipped and counts every step once"


def test_the_second_iteration_compiles_nothing() -> None:
    for variant in (PLAIN, VARIANTS["clipped epochs"]):
        config = probe_config("Match", variant)
        experiment = build(config)
        learn(experiment, config, 2)
        with counted_compilations() as compiled:
            learn(experiment, config, 4)
        # params are initialised outside of jit here, by functions that are compiled already
        assert compiled == []


def test_the_same_seed_learns_the_same_and_another_seed_does_not() -> None:
    config = probe_config("Match", PLAIN)
    runs = []
    for seed in (1, 1, 2):
        seeded = replace(config, run=replace(config.run, seed=seed))
        experiment = build(seeded)
        state, *_ = learn(experiment, seeded, 3)
        runs.append(jax.tree.leaves(state.params))
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


def test_observations_are_decoded_for_learning_as_for_acting() -> None:
    """With epochs the ratio of the first pass is 1 exactly, so KL is 0: acting and learning see the same."""
    config = probe_config("Match", replace(PLAIN, epochs=2))
    config = replace(config, optimizer=replace(config.optimizer, learning_rate=1e-12))
    experiment = build(config)
    _, metrics, _ = learn(experiment, config, 1)
    assert abs(metrics["kl"]) < 1e-6
