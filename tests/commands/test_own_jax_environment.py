"""The documented environment of a user's own in JAX, docs/examples/falling_ball.py, through every command."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxpg
from jaxpg.cli import parse_train
from jaxpg.core.errors import UserError
from jaxpg.core.user_modules import Trust
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.viewing.drawn_observation import draw_observation
from tests.runs import games, records, run, saved, untimed

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "falling_ball.py"
pytestmark = pytest.mark.usefixtures("quick_compilation")  # whatever is compared here is made under it
PER_ITERATION = 4 * 8
TRUST = Trust(everything=True)
ARGV = [
    *("--imports", str(EXAMPLE), "--env.backend", "falling_ball", "--env.game", "FallingBall"),
    *("--observation.name", "picture", "--policy.name", "mlp", "--policy.hidden", "8", "--env.num-lanes", "4"),
    *("--reinforce.rollout-agent-steps", "8", "--run.schedule-agent-steps", str(3 * PER_ITERATION)),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three iterations at a stretch."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(*ARGV, "--run.dir", str(folder), "--run.budget-agent-steps", str(3 * PER_ITERATION))
    return folder


def test_a_run_that_is_interrupted_is_the_same_to_the_bit(whole: Path, tmp_path: Path) -> None:
    """In the middle of episodes: they have 5 agent steps and a reset, and an iteration has 8."""
    folder = tmp_path / "parts"
    run(*ARGV, "--run.dir", str(folder), "--run.budget-agent-steps", str(PER_ITERATION))
    run("--resume", str(folder), "--trust-imports", "--run.budget-agent-steps", str(3 * PER_ITERATION))
    assert untimed(records(folder)) == untimed(records(whole))
    assert untimed(games(folder)) == untimed(games(whole))
    assert saved(folder, TRUST)[1] == saved(whole, TRUST)[1]
    assert len(games(whole)) == 4 * (3 * 8 // 6)


def test_other_settings_begin_new_games(whole: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "other"
    shutil.copytree(whole, folder)
    argv = ["--resume", str(folder), "--trust-imports", "--run.budget-agent-steps", str(4 * PER_ITERATION)]
    run(*argv, "--env.max-episode-agent-steps", "3")
    assert "the emulator settings have changed: new games are begun" in capsys.readouterr().err
    assert {game["length_agent_steps"] for game in games(folder)[-4:]} == {"3"}


def test_evaluate_record_and_report_know_it(whole: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(tmp_path)
    evaluation = jaxpg.evaluate(folder, 6, trust_imports=True)
    assert set(evaluation.returns) <= {-1.0, 1.0}
    assert evaluation.lengths_agent_steps == [5] * 6
    (video,) = jaxpg.record(folder, trust_imports=True)
    assert video.stat().st_size > 1000
    jaxpg.report([folder], trust_imports=True)
    assert b"FallingBall" in Path("report.html").read_bytes()
    decision = jaxpg.load_policy(folder, trust_imports=True)(np.zeros((6, 5, 2), bool))
    assert decision.probabilities.shape == (3,)


def test_what_it_shows_chooses_the_recipe() -> None:
    arguments = parse_train(ARGV[:6])
    assert arguments.about == ("recipe small_picture, chosen for FallingBall",)
    assert (arguments.config.env.backend, arguments.config.policy.name) == ("falling_ball", "small_conv")
    jaxpg.register_jax_environment("a vector")(lambda config: jaxpg.JaxEnvironment(_begin, _go_on, 2))
    assert parse_train(["--env.backend", "a vector", "--env.game", "X"]).about == ("recipe vector, chosen for X",)
    jaxpg.register_jax_environment("wrong")(lambda config: jaxpg.JaxEnvironment(_begin, _begin, 2))
    with pytest.raises(
        UserError, match=r"step of wrong: .*: _begin takes \(key\), but must take \(key, state, action\)"
    ):
        parse_train(["--env.backend", "wrong"])
    jaxpg.register_jax_environment("broken")(lambda config: 1 / 0)
    with pytest.raises(UserError, match=r"env.backend: 'broken': .*: ZeroDivisionError"):
        parse_train(["--env.backend", "broken"])


def _begin(key):
    return 0, np.zeros(3, np.float32)


def _go_on(key, state, action):
    return state, jaxpg.JaxStep(np.zeros(3, np.float32), 0.0, terminated=True)


def test_a_checkpoint_of_another_environment_is_refused(whole: Path, tmp_path: Path) -> None:
    checkpoints = Checkpoints(whole / "checkpoints", Team.alone())
    with pytest.raises(UserError, match="the saved lanes are of another environment; --checkpoint.no-replay begins"):
        checkpoints.lanes(checkpoints.iterations()[-1], {"mine": np.zeros((4, 2))})
    checkpoints.close()


def test_channels_are_drawn_in_colours_of_their_own() -> None:
    pixels = np.zeros((2, 2, 3), bool)
    pixels[0, 0, 0] = pixels[0, 1, 1] = pixels[1, 0, 2] = True
    drawn = draw_observation(pixels)
    colours = {tuple(drawn[y, x]) for y in range(2) for x in range(2)}
    assert len(colours) == 4, "three channels, of which the last lies on top, and nothing"
    assert tuple(drawn[1, 1]) == (0, 0, 0)
