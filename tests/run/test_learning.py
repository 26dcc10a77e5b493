"""That a recipe really learns: CartPole-v1 from start to solved, through the command."""

from pathlib import Path

import jax
import pytest

from jaxpg.config import load_recipe
from jaxpg.envs import make_env
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.rollout import Rollout
from jaxpg.kernel.whole_episodes import play_episodes
from jaxpg.policies.observations import make_observation
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.train import main

RECIPE = Path(__file__).parents[2] / "configs" / "cartpole.yaml"
GAMES = 20


@pytest.mark.long
def test_the_cartpole_recipe_solves_it(tmp_path):
    """REINFORCE, each agent step used once. Chance gives about 22, the limit is 500, solved means 475."""
    with pytest.raises(SystemExit) as end:
        main([str(RECIPE), "--run.dir", str(tmp_path / "run"), "--run.seed", "3"])
    assert end.value.code == 0

    config = load_recipe(tmp_path / "run" / "config.yaml")
    assert (config.reinforce.epochs, config.reinforce.minibatch_agent_steps) == (1, 0)
    experiment = build(config)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    state = experiment.learner.init(jax.random.key(0), experiment.policy.init(jax.random.key(0)))
    state, _ = checkpoints.restore(checkpoints.iterations()[-1], state)
    checkpoints.close()

    observation = make_observation(config.observation)
    lanes = make_env(config.env, observation.needs, GAMES)
    rollout = Rollout([lanes], experiment.policy, observation, keeps_tape=False, greedy=True)
    rollout.reset(lane_seeds(1234, 0, GAMES))  # games that training has not seen
    games = play_episodes(rollout, state.params, GAMES, jax.random.key(0))
    rollout.close()
    assert sorted(games.lane.tolist()) == list(range(GAMES))
    assert games.episode_return.mean() >= 475
