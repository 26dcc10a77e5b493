"""Filming: what a tile of the grid shows at which time, and what is said of a game."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from jaxpg.envs.config import EnvConfig
from jaxpg.viewing import filming
from jaxpg.viewing.replayed_episode import Moves, frames_per_picture

FRAMES_OF_AGENT_STEPS = [4, 4, 1]
"""The last agent step ends a game after one frame."""


@pytest.fixture
def _frames(monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(display: None, moves: Moves, frame_skip: int) -> Iterator[list[np.ndarray]]:
        assert (display, frame_skip) == (None, 4)
        for t, count in enumerate(FRAMES_OF_AGENT_STEPS):
            yield [np.array([moves.seed, t, frame]) for frame in range(count)]

    monkeypatch.setattr(filming, "frames_of_agent_steps", frames)


@pytest.mark.usefixtures("_frames")
def test_each_game_of_a_tile_has_its_own_score_and_clock() -> None:
    rewards = np.array([0, 2, -5], np.float32)
    games = {f"game {seed}": Moves(seed, np.zeros(3, np.int32), rewards * seed) for seed in (1, 10)}
    shots = list(filming._shots(games, None, 4))
    for seed, shown in zip((1, 10), (shots[:9], shots[9:]), strict=True):
        assert {shot.title for shot in shown} == {f"game {seed}"}
        assert [shot.score / seed for shot in shown] == [0] * 4 + [2] * 4 + [-3], "with this agent step's reward"
        assert [shot.seconds for shot in shown] == pytest.approx(np.arange(9) / 60)
        assert [tuple(shot.frame) for shot in shown] == [
            (seed, t, frame) for t, count in enumerate(FRAMES_OF_AGENT_STEPS) for frame in range(count)
        ]


@pytest.mark.parametrize(("limit", "cut"), [(3, ", where the time limit cut it"), (4, "")])
def test_the_sentence_about_a_game_says_whether_the_limit_cut_it(limit: int, cut: str, capsys) -> None:
    env = EnvConfig(game="Pong", max_episode_agent_steps=limit)
    moves = Moves(0, np.zeros(3, np.int32), np.array([0, 2, -5], np.float32))
    filming._say_game(filming._title(env, 40, 0), moves, env)
    assert capsys.readouterr().out == f"jaxpg: Pong, checkpoint 40, game 1: return -3, 3 agent steps{cut}\n"


@pytest.mark.parametrize(("num_agent_steps", "frames"), [(1, 20), (12, 20), (60, 4), (500, 2)])
def test_a_short_episode_of_an_environment_without_a_speed_is_slow(num_agent_steps: int, frames: int) -> None:
    display = SimpleNamespace(spec=SimpleNamespace(axes=(0,)))
    assert frames_per_picture(display, num_agent_steps) == frames
