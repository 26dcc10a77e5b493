"""The comparison on environments in JAX: what is trained, and the table."""

import jax_envs

from jaxpg.cli import parse_train
from jaxpg.experiment import build


def test_the_training_is_that_of_the_peer() -> None:
    config = parse_train(jax_envs.flags("Breakout-MinAtar")).config
    assert (config.env.backend, config.env.game, config.env.num_lanes) == ("gymnax", "Breakout-MinAtar", 64)
    learner = config.reinforce
    assert (learner.rollout_agent_steps, learner.epochs, learner.minibatch_agent_steps) == (128, 4, 128 * 64 // 4)
    assert build(config).whole_iterations is not None


def test_the_table_has_a_ratio_for_each_side_of_jaxpg() -> None:
    row = {
        "agent_steps_per_second": {"jaxpg": 150_000.0, "rejax": 100_000.0, "8 members": 200_000.0},
        "ratios": {"jaxpg": {"median": 1.5, "lowest": 1.4, "highest": 1.6}},
    }
    table = jax_envs._table({"CartPole-v1": row})
    assert "| CartPole-v1 | jaxpg | 150,000 | **1.50** (1.40 to 1.60) | 6.67 |" in table
    assert "| CartPole-v1 | 8 members | 200,000 |  | 5.00 |" in table
