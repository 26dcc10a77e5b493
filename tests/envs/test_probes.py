"""The probes give what their comments promise, by EnvPool's convention."""

import numpy as np
import pytest

from jaxpg.core.types import EmulatorNeeds, TimeStep
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.probes import PROBLEMS, Probe


def _play(game: str, actions: list[int], seed: int = 0) -> list[TimeStep]:
    probe = Probe(EnvConfig(backend="probe", game=game), EmulatorNeeds(kind="vector"), 1)
    probe.reset(np.array([seed]))
    steps = [probe.recv()]
    for action in actions:
        probe.send(np.array([action]))
        steps.append(probe.recv())
    return steps


def test_a_counting_game_ignores_exactly_the_action_after_its_end() -> None:
    steps = _play("Count", [0] * 12)
    assert [s.reward[0] for s in steps] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]
    assert [bool(s.acted[0]) for s in steps] == [False, *[True] * 5, False, *[True] * 5, False]
    assert [i for i, s in enumerate(steps) if s.terminated[0]] == [5, 11]


def test_an_endless_game_truncates_and_looks_the_same_at_every_step() -> None:
    steps = _play("Endless", [0] * 9)
    assert [i for i, s in enumerate(steps) if s.truncated[0]] == [8]
    assert not any(s.terminated[0] for s in steps)
    assert len({s.observation[0, 1] for s in steps}) == 1


@pytest.mark.parametrize("seed", range(4))
def test_match_and_recall_pay_for_the_sign(seed: int) -> None:
    sign = _play("Match", [], seed)[0].observation[0, 0]
    right = int(sign > 0)
    assert _play("Match", [right], seed)[1].reward[0] == 1
    assert _play("Match", [1 - right], seed)[1].reward[0] == 0
    wrong = 1 - right
    assert [s.reward[0] for s in _play("Recall", [right, wrong, wrong, wrong], seed)] == [0, 0, 0, 0, 1]
    assert [s.reward[0] for s in _play("Recall", [wrong, right, right, right], seed)] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("game", PROBLEMS)
def test_the_optimum_is_reached_by_the_best_of_two_constant_or_sign_policies(game: str) -> None:
    length, best = PROBLEMS[game].length, []
    for seed in range(8):
        sign = _play(game, [], seed)[0].observation[0, 0]
        plans = [[0] * length, [1] * length, [int(sign > 0)] * length]
        best.append(max(sum(s.reward[0] for s in _play(game, plan, seed)) for plan in plans))
    if PROBLEMS[game].reward == "sign_of_observation":
        assert set(best) == {-1.0, 1.0}, "half of the games each, so 0 on average"
    else:
        assert set(best) == {PROBLEMS[game].optimum}
