"""What a trace credits each agent step with, against recursions written out here."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxpg.config import Config, RunConfig
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.viewing.trace import returns_to_go

REWARDS = np.array([0, 2, 0, 0, -3, 0, 1, 0], np.float32)
LIFE_LOST = np.array([0, 0, 1, 0, 0, 0, 0, 0], bool)


def _recursion(gamma: float, ends: Callable[[float, bool], bool] = lambda r, lost: False) -> list[float]:
    """Backwards over the game, whose end gives nothing more."""
    credited, following = [], 0.0
    for reward, lost in zip(REWARDS[::-1].tolist(), LIFE_LOST[::-1].tolist(), strict=True):
        following = reward + (0.0 if ends(reward, lost) else gamma * following)
        credited.insert(0, following)
    return credited


def test_by_hand() -> None:
    config = Config(reinforce=ReinforceConfig(discount=0.5, cut_at_reward=False))
    assert returns_to_go(config, REWARDS[-3:], LIFE_LOST[-3:]).tolist() == [0.5, 1, 0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"discount": 0.9, "cut_at_reward": False}, _recursion(0.9)),
        ({"discount": 0.9, "cut_at_reward": False, "td_lambda": 0.5}, _recursion(0.9)),
        ({"discount": 0.9, "cut_at_reward": True}, _recursion(0.9, lambda reward, lost: reward != 0)),
        (
            {"discount": 0.9, "cut_at_reward": False, "cut_at_life_loss": True},
            _recursion(0.9, lambda reward, lost: lost),
        ),
        ({"discount": 1.0, "cut_at_reward": True, "reward_transform": "clip"}, [1, 1, -1, -1, -1, 1, 1, 0]),
    ],
)
def test_reinforce_credits_by_its_own_rules(settings: dict, expected: list[float]) -> None:
    credited = returns_to_go(Config(reinforce=ReinforceConfig(**settings)), REWARDS, LIFE_LOST)
    np.testing.assert_allclose(credited, expected, rtol=1e-6)


@pytest.mark.parametrize("learner", ["random_search", "evolution"])
def test_search_and_evolution_count_the_plain_sum(learner: str) -> None:
    config = Config(run=RunConfig(learner=learner), reinforce=ReinforceConfig(discount=0.5, cut_at_life_loss=True))
    assert returns_to_go(config, REWARDS, LIFE_LOST).tolist() == np.cumsum(REWARDS[::-1])[::-1].tolist()
