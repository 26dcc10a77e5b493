"""The documented environment of a user's own, docs/examples/grid_world.py, through every command, to the bit."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxpg.cli import parse_train
from jaxpg.core.errors import UserError
from jaxpg.experiment import build
from tests.commands.test_own_policy import command
from tests.commands.test_record import _frames
from tests.runs import games, records, run, summary, untimed

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "grid_world.py"
TINY = [
    *("cartpole", "--imports", "./grid_world.py", "--env.backend", "gymnasium", "--env.game", "GridWorld-v0"),
    *("--env.num-lanes", "4", "--policy.hidden", "8", "--reinforce.rollout-agent-steps", "16", "--run.seed", "3"),
    *("--checkpoint.every-iterations", "4", "--run.schedule-agent-steps", "768"),
]
ITERATION = 4 * 16
COLORS = {"agent": (250, 178, 80), "goal": (90, 180, 90), "floor": (40, 40, 40)}


@pytest.fixture(scope="module")
def home(quick_compilation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the example, a run of it, and the same run in two parts."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(EXAMPLE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(*TINY, "--run.dir", "whole", "--run.budget-agent-steps", str(12 * ITERATION))
        run(*TINY, "--run.dir", "parts", "--run.budget-agent-steps", str(6 * ITERATION))
        run("--resume", "parts", "--trust-imports", "--run.budget-agent-steps", str(12 * ITERATION))
        yield folder


def test_a_run_in_two_parts_is_the_run_in_one(home: Path) -> None:
    assert records(home / "whole")[-1]["episodes"] > 5
    assert untimed(games(home / "parts")) == untimed(games(home / "whole"))
    assert untimed(records(home / "parts")) == untimed(records(home / "whole"))


def test_evaluate_record_and_report_know_it(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(home)
    command("evaluate", "whole", "--episodes", "2", "--trust-imports")
    assert "2 games of GridWorld-v0 on gymnasium" in capsys.readouterr().out
    command("record", "whole", "--trust-imports", "--out", "grid.mp4", "--env.max-episode-agent-steps", "5")
    (game,) = json.loads(Path("grid.json").read_text())["games"]
    frames = _frames(Path("grid.mp4"))
    assert len(frames) == 10 * len(game["actions"]), "ten frames a step are six steps a second"
    seen = frames[0, :420, 70:490].reshape(5, 84, 5, 84, 3).mean(axis=(1, 3))
    near = {name: np.abs(seen - color).max(axis=2) < 30 for name, color in COLORS.items()}
    assert {name: int(squares.sum()) for name, squares in near.items()} == {"agent": 1, "goal": 1, "floor": 23}
    command("report", "whole", "--trust-imports")
    assert b"GridWorld-v0" in Path("report.html").read_bytes()


def test_what_it_shows_chooses_the_recipe_and_its_library_is_named(home: Path, monkeypatch) -> None:
    monkeypatch.chdir(home)
    argv = ["--imports", "./grid_world.py", "--env.game", "GridWorld-v0"]
    assert parse_train([*argv, "--env.backend", "gymnasium"]).about == ("recipe vector, chosen for GridWorld-v0",)
    for words in (argv, ["vector", *argv]):
        with pytest.raises(UserError, match="envpool has no 'GridWorld-v0', but Gymnasium has; add --env.backend gymn"):
            build(parse_train(words).config)
    with pytest.raises(UserError, match="unknown name 'ALE/Pong-v5'; did you mean 'Pong'"):
        parse_train(["--env.game", "ALE/Pong-v5"])


pytestmark = pytest.mark.usefixtures("quick_compilation")  # no bits are compared with what was made without it
ODD = [
    *("cartpole", "--imports", str(EXAMPLE.parents[2] / "tests" / "envs" / "odd_environment.py")),
    *("--env.backend", "gymnasium", "--env.game", "Odd-v0", "--env.num-lanes", "4", "--policy.hidden", "8"),
    *("--reinforce.rollout-agent-steps", "16"),
    *("--env.options", '{"size": 4, "sees": "four", "does": "chance, late", "length": 99}'),
]


def test_an_environment_of_chance_begins_new_games_and_one_that_fails_ends_the_run_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "x"
    run(*ODD, "--run.dir", str(folder), "--run.budget-agent-steps", str(ITERATION))
    run("--resume", str(folder), "--trust-imports", "--run.budget-agent-steps", "100000", code=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        f"jaxpg: {folder}: the same seeds and actions led to other games (changed, or not deterministic): "
        "new games are begun, so that the run goes on differently than without interruption"
    )
    failure = "Odd-v0, lane 0: step raised RuntimeError: it is late"
    assert len(lines) == 2
    assert lines[1].startswith(f"jaxpg: {folder}: {failure}")
    assert summary(folder)["ended"].startswith(failure)
    assert records(folder)[-1]["agent_steps"] == 3 * ITERATION, "one before, and two with 32 of the 40 agent steps"
    assert (folder / "checkpoints" / "3").is_dir(), "the newest whole iteration is saved"
