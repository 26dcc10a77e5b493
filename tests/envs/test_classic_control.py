"""EnvPool's classic control: shapes, ends and limits."""

import numpy as np
import pytest

from jaxpg.core.types import EmulatorNeeds, RawAnswers
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool import EnvPool
from tests.helpers import played

VECTOR = EmulatorNeeds(kind="vector")


@pytest.mark.parametrize(
    ("game", "num_actions", "size"), [("CartPole-v1", 2, 4), ("Acrobot-v1", 3, 6), ("MountainCar-v0", 3, 2)]
)
def test_classic_control_runs_on_envpool(game: str, num_actions: int, size: int) -> None:
    env = make_env(EnvConfig(game=game), VECTOR, 2)
    env.reset(np.array([1, 2]))
    steps = played(env, np.random.default_rng(0).integers(env.spec.num_actions, size=(250, 2)))
    env.close()
    assert env.spec.num_actions == num_actions
    assert steps[0].observation.shape == (2, size)
    assert env.spec.frame_skip == 1
    ended = np.array([s.terminated | s.truncated for s in steps])
    assert ended.any() == (game != "Acrobot-v1"), "CartPole falls, MountainCar times out after 200, Acrobot after 500"


def test_a_classic_game_is_cut_at_the_limit_that_was_asked_for() -> None:
    env = make_env(EnvConfig(game="MountainCar-v0", max_episode_agent_steps=7), VECTOR, 2)
    env.reset(np.array([1, 2]))
    steps = played(env, np.zeros((8, 2), np.int64))
    assert [step.truncated.all() for step in steps] == [False] * 7 + [True, False]
    assert not any(step.terminated.any() for step in steps)
    env.close()


def test_a_game_that_is_over_before_its_first_action_is_none() -> None:
    """No-ops at its start can end a game: the autoreset's own answer then is an end, too."""
    env = EnvPool(EnvConfig(game="CartPole-v1"), VECTOR, 1)
    env.reset(np.array([1]))
    env.recv()
    over = np.array([[False], [True], [True], [False], [False]])
    rewards = np.array([[1.0], [1.0], [9.0], [0.0], [1.0]])
    steps = env.interpret(RawAnswers(rewards, over, np.zeros_like(over), over, np.zeros(over.shape, np.int32)))
    env.close()
    assert steps.acted[:, 0].tolist() == [True, True, False, False, True]
    assert steps.terminated[:, 0].tolist() == [False, True, False, False, False]
    assert steps.reward[:, 0].tolist() == [1, 1, 0, 0, 1]
