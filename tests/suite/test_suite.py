"""``python -m jaxpg.suite``: games x seeds x recipes. Most tests let a small program stand for the trainings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jaxpg
import jaxpg.suite as suite_module
from jaxpg.core.errors import UserError
from jaxpg.scores.suite_file import read_suite
from jaxpg.suite import main, works
from tests.runs import records, untimed
from tests.suite_fakes import FakeProgram

RECIPE = """
run: {budget_agent_steps: 640}
env: {game: CartPole-v1, num_lanes: 4, num_threads: 1}
observation: {name: vector}
policy: {hidden: [8]}
reinforce: {rollout_agent_steps: 16}
optimizer: {learning_rate: 5.0e-4}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a recipe, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(works, "SECONDS_BETWEEN_LOOKS", 0.02)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def program(place, monkeypatch):
    return FakeProgram(place / "program", monkeypatch)


def _suite(*argv: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--out", "out", *argv])
    assert end.value.code == code


def _rows() -> list[dict]:
    return json.loads(Path("out/suite.json").read_text())["rows"]


def _done(calls: list[list[str]]) -> list[tuple[str, ...]]:
    """Commands and their folders."""
    return sorted((command.removeprefix("jaxpg."), Path(words[-1]).name) for command, *words in calls)


def test_a_game_with_a_slash_in_its_name_has_one_folder(program):
    found = jaxpg.suite(["mine.yaml"], ["gfootball/academy_corner-v1"], seeds=[1], out="out", episodes=0)
    assert [row.folder for row in found.rows] == ["mine-gfootball_academy_corner-v1-1"]
    assert Path("out", found.rows[0].folder).is_dir()


def test_every_run_is_trained_and_evaluated_once_and_a_second_call_has_nothing_to_do(program, capsys):
    asked = [
        "mine.yaml",
        "--games",
        "CartPole-v1",
        "Acrobot-v1",
        "--seeds",
        "3",
        "4",
        "--episodes",
        "5",
        "--parallel",
        "2",
    ]
    _suite(*asked)
    calls = program.calls()
    assert sorted(command for command, *_ in calls) == [
        *["jaxpg.evaluate"] * 8,
        "jaxpg.report",
        *["jaxpg.train"] * 4,
    ]
    rows = {(row["game"], row["seed"]): row for row in _rows()}
    assert set(rows) == {(game, seed) for game in ("CartPole-v1", "Acrobot-v1") for seed in (3, 4)}
    row = rows["Acrobot-v1", 4]
    assert (row["recipe"], row["folder"], row["failure"], row["agent_steps"]) == (
        "mine",
        "mine-Acrobot-v1-4",
        None,
        640,
    )
    assert {actions: score["mean"] for actions, score in row["scores"].items()} == {"sampled": 4.0, "greedy": 4.0}
    assert row["curve"][-1] == [640.0, pytest.approx(4 * (4 - 100 * 0.0095))]
    assert (
        "| mine | Acrobot-v1 | sampled | 2 of 2 | 3.5 | -2.853 to 9.853 | 35.0% |" in Path("out/suite.md").read_text()
    )
    assert "runs=4 of=4 run=" in capsys.readouterr().out
    _suite(*asked)
    assert [command for command, *_ in program.calls()] == ["jaxpg.report"]


def test_a_file_that_the_user_names_takes_the_place_of_the_recipe_s_own(program, capsys):
    Path("mine.yaml").write_text("imports: [./gone.py]\n" + RECIPE)
    Path("own.py").touch()
    asked = ["mine.yaml", "--seeds", "1", "--episodes", "0"]
    _suite(*asked, code=2)
    assert "gone.py, which would run that code" in capsys.readouterr().err
    _suite(*asked, "--imports", "./own.py")
    (train,) = [words for command, *words in program.calls() if command == "jaxpg.train"]
    assert train[-2:] == ["--imports", str(Path("own.py").resolve())]


def test_a_failed_run_is_a_row_that_says_so_and_is_tried_again_by_the_next_call(program, capsys):
    Path("bad.yaml").write_text(RECIPE.replace("5.0e-4", "0.7"))
    _suite("mine.yaml", "bad.yaml", "--seeds", "1", "--episodes", "0", code=1)
    assert [(row["recipe"], row["failure"]) for row in _rows()] == [("mine", None), ("bad", "a weight became NaN")]
    said = capsys.readouterr()
    assert said.err == (
        "jaxpg: bad-CartPole-v1-1: failed: a weight became NaN; its output is in out/bad-CartPole-v1-1.log\n"
    )
    assert "**failed**: a weight became NaN" in Path("out/suite.md").read_text()
    program.calls()
    _suite("mine.yaml", "bad.yaml", "--seeds", "1", "--episodes", "0", code=1)
    assert [words[:2] for words in program.calls()] == [["jaxpg.train", "--resume"], ["jaxpg.report", "out"]]


def test_a_signal_ends_the_runs_and_the_same_command_goes_on(program, monkeypatch, capsys):
    program.let_new_trainings_wait(True)
    sent = []

    def look(progress) -> None:
        if program.waiting and not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(suite_module._Progress, "look", look)
    words = ["mine.yaml", "--seeds", "1", "2", "--episodes", "0"]
    _suite(*words, code=143)
    last = "jaxpg: 0 of 2 runs ended, and the same command goes on with the others; the results are in out"
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert [row["ended"] for row in _rows()] == [None, None]
    assert [call[0] for call in program.calls()] == ["jaxpg.train"], "neither the second run nor the page was begun"
    program.let_new_trainings_wait(False)
    _suite(*words)
    assert program.calls()[0][:2] == ["jaxpg.train", "--resume"]
    assert [row["failure"] for row in _rows()] == [None, None]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "which recipes? give one or more, such as atari"),
        (["pnog"], "pnog: neither a file nor a recipe that comes with jaxpg; did you mean 'pong'?"),
        (["pong", "--games", "Breakout"], "belong to Pong and not to Breakout"),
        (["mine.yaml", "--parallel", "0"], "parallel: from 1 to 256, not 0"),
        (["mine.yaml", "--episodes", "-1"], "episodes: from 0, not -1"),
        (["mine.yaml", "--seeds", "1", "1"], "mine-CartPole-v1-1: two runs would have this name"),
        (["mine.yaml", "--seeds", "-1"], "run.seed: input should be greater than or equal to 0, not -1"),
        (["mine.yaml", "--chekpoint", "best"], "unknown flag --chekpoint; did you mean '--checkpoint'?"),
        (["mine.yaml", "--", "--env.gmae", "Pong"], "unknown flag --env.gmae; did you mean '--env.game'?"),
        (["mine.yaml", "--budget-seconds", "-1"], "run.budget_seconds: input should be greater than or equal to 0"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_begins(program, capsys, argv, sentence):
    _suite(*argv, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxpg: ")
    assert sentence in line
    assert program.calls() == []


def test_a_folder_with_other_settings_is_refused(program, capsys):
    _suite("mine.yaml", "--seeds", "1", "--episodes", "0")
    program.calls()
    _suite("mine.yaml", "--seeds", "1", "2", "--episodes", "0", "--", "--policy.hidden", "16", code=2)
    assert "its policy.hidden is (8,), not (16,); remove it or choose another folder" in capsys.readouterr().err
    assert program.calls() == []


def test_python_has_the_suite_as_a_function(program):
    overrides = {"run.budget_agent_steps": 320}
    found = jaxpg.suite(["mine.yaml"], seeds=[7], out="out", overrides=overrides, episodes=0)
    assert [(row.recipe, row.seed, row.agent_steps, row.failure) for row in found.rows] == [("mine", 7, 320, None)]
    with pytest.raises(UserError, match="two runs would have this name"):
        jaxpg.suite({"a": {}}, seeds=[1, 1], out="other")


@pytest.mark.long
def test_a_killed_suite_goes_on_to_the_bit(place):
    """Real trainings. SIGKILL for the suite lets its trainings save and end, so that the next call can go on."""
    recipe = RECIPE.replace("640", "64000")
    Path("mine.yaml").write_text(recipe)
    words = ["mine.yaml", "--seeds", "1", "2", "--parallel", "2", "--episodes", "5", "--out"]
    command = [sys.executable, "-m", "jaxpg", "suite", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*command, "whole"], check=True, env=environment)
    with subprocess.Popen([*command, "killed"], env=environment) as killed:
        lines = [Path(f"killed/mine-CartPole-v1-{seed}/metrics.jsonl") for seed in (1, 2)]
        while not any(path.exists() and len(path.read_bytes().splitlines()) > 20 for path in lines):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    subprocess.run([*command, "killed"], check=True, env=environment)
    for seed in (1, 2):
        read = [untimed(records(Path(f"{out}/mine-CartPole-v1-{seed}"))) for out in ("whole", "killed")]
        assert read[0] == read[1]
    logs = [Path(f"killed/mine-CartPole-v1-{seed}.log").read_text() for seed in (1, 2)]
    assert any("SIGTERM" in log or "interrupted" in log for log in logs), "the trainings ended with their parent"
    assert [row["scores"] for row in json.loads(Path("whole/suite.json").read_text())["rows"]] == [
        row["scores"] for row in json.loads(Path("killed/suite.json").read_text())["rows"]
    ]
    assert Path("killed/suite.html").stat().st_size > 10_000


def test_a_suite_is_not_continued_through_links(tmp_path):
    (tmp_path / "mine").write_text("not yours")
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "cartpole-CartPole-v1-1.log").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="1.log: a run folder must not contain symbolic links"):
        jaxpg.suite(["cartpole"], seeds=[1], out=tmp_path / "suite", episodes=0)
    assert (tmp_path / "mine").read_text() == "not yours"


@pytest.mark.parametrize(
    "change", [{"folder": "../../mine"}, {"folder": ".."}, {"recipe": "\x1b[31m"}, {"seed": 10**400}]
)
def test_results_name_only_runs_beside_them(tmp_path, change):
    row = {"recipe": "a", "game": "Pong", "seed": 1, "folder": "a-Pong-1", "failure": None, "ended": None}
    row |= {"agent_steps": 1, "seconds": 1.0, "scores": {}, "curve": []}
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"episodes": 3, "checkpoint": "latest", "rows": [row]}))
    assert read_suite(path).rows[0].folder == "a-Pong-1"
    path.write_text(json.dumps({"episodes": 3, "checkpoint": "latest", "rows": [row | change]}))
    with pytest.raises(UserError, match="cannot be read as the results of a suite"):
        read_suite(path)
