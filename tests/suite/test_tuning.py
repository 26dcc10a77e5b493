"""``python -m jaxpg.tune``: most tests let a small program stand for the trainings."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import jaxpg
from jaxpg.config import load_recipe
from jaxpg.suite import tuning, works
from jaxpg.suite.study import Study
from jaxpg.suite.trained_folder import Training
from jaxpg.tune import main
from tests.runs import records, untimed
from tests.suite.test_suite import RECIPE
from tests.suite_fakes import FakeProgram

RATES = "optimizer.learning_rate=log:1e-3:1e-1"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a recipe, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(works, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(tuning, "SECONDS_BETWEEN_REPORTS", 0.02)
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("5.0e-4", "2.0e-3"))
    return tmp_path


@pytest.fixture
def program(place, monkeypatch):
    return FakeProgram(place / "program", monkeypatch)


def _tune(*argv: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--study", "out", *argv])
    assert end.value.code == code


def _trials() -> list[dict]:
    return json.loads(Path("out/study.json").read_text())["trials"]


def test_a_study_finds_the_better_rates_and_writes_the_best_recipe(program, capsys):
    asked = [
        "mine.yaml",
        "--space",
        RATES,
        "reinforce.epochs=1,2",
        "--seeds",
        "3",
        "4",
        "--prune",
        "none",
        "--trials",
        "4",
    ]
    _tune(*asked)
    trials = _trials()
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    assert trials[0]["settings"] == {"optimizer.learning_rate": 0.002, "reinforce.epochs": 1}, "the recipe as it is"
    for trial in trials:
        # over the last quarter the fake's return rises in a line from 3 (seed - 100 |rate - 0.01|) to 4 (...)
        gain = 3.5 - 100 * abs(trial["settings"]["optimizer.learning_rate"] - 0.01)
        assert trial["value"] == pytest.approx(3.5 * gain)
        assert trial["value"] == pytest.approx(sum(trial["scores"].values()) / 2)
        assert trial["curve"][-1] == [640, pytest.approx(4 * gain)]
    best = max(trials, key=lambda trial: trial["value"])
    assert load_recipe(Path("out/best.yaml")).optimizer.learning_rate == best["settings"]["optimizer.learning_rate"]
    assert Path("out/tune.html").exists()
    calls = program.calls()
    assert sorted(command for command, *_ in calls) == ["jaxpg.report", *["jaxpg.train"] * 8]
    said = capsys.readouterr()
    assert said.err == ""
    assert f"jaxpg: trial {best['number']} is the best with" in said.out
    ends = [line for line in said.out.splitlines() if line.startswith("trials=")]
    assert [line.split()[:4] for line in ends] == [
        [f"trials={i + 1}", "of=4", f"trial={i}", "state=complete"] for i in range(4)
    ]
    _tune(*asked[:-1], "5", "--workers", "2")
    assert [command for command, *_ in program.calls()] == ["jaxpg.train", "jaxpg.train", "jaxpg.report"]
    assert _trials()[:4] == trials


def test_a_search_file_and_the_worst_seed(program):
    Path("search.yaml").write_text("optimizer.learning_rate: [1.0e-2, 2.0e-2]\n")
    _tune(
        "mine.yaml",
        "--search",
        "search.yaml",
        "--seeds",
        "3",
        "4",
        "--trials",
        "2",
        "--over-seeds",
        "worst",
        "--score",
        "final",
    )
    for trial in _trials():
        assert trial["value"] == min(trial["scores"].values())


def test_the_score_steps_ends_runs_at_the_target(program):
    _tune("mine.yaml", "--space", RATES, "--seeds", "3", "--trials", "1", "--score", "steps", "--target", "6")
    (trial,) = _trials()
    assert trial["value"] == -480, "2.2, 4.4, 6.6 and 8.8 after 50, 100, 150 and 200 games"
    assert load_recipe(Path("out/best.yaml")).run.target_return == 6


def test_a_trial_whose_settings_fail_is_given_up_and_the_search_goes_on(program, capsys):
    _tune(
        "mine.yaml",
        "--space",
        "optimizer.learning_rate=0.7,0.01",
        "--sampler",
        "random",
        "--seeds",
        "3",
        "4",
        "--trials",
        "6",
    )
    states = {trial["settings"]["optimizer.learning_rate"]: trial["state"] for trial in _trials()}
    assert states == {0.7: "pruned", 0.01: "complete"}
    reasons = {trial["reason"] for trial in _trials() if trial["state"] == "pruned"}
    assert reasons <= {"seed 3: a weight became NaN", "seed 4: a weight became NaN"}
    assert reasons
    assert capsys.readouterr().err == ""


def test_faults_of_the_machine_end_the_search(program, capsys):
    _tune("mine.yaml", "--space", "optimizer.learning_rate=0.9,0.95", "--seeds", "3", "--trials", "9", code=1)
    assert [trial["state"] for trial in _trials()] == ["failed"] * 3
    assert "3 trials in a row failed, the last one with exit code 1; see its log" in capsys.readouterr().err


def test_a_trial_that_falls_behind_is_given_up_while_it_runs(program, capsys, monkeypatch):
    """Its runs would wait for a minute; both get SIGTERM."""
    monkeypatch.setattr(tuning, "SECONDS_BETWEEN_LINES", 0.0)
    program.slow_down_bad_trainings()
    rates = [0.002, 0.003, 0.004, 0.005, 0.006]
    original = Study.__init__

    def enqueue(study, *arguments, **options):
        original(study, *arguments, **options)
        for rate in [*rates, 0.09]:
            study._study.enqueue_trial({"optimizer.learning_rate": rate}, skip_if_exists=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, "__init__", enqueue)
        _tune("mine.yaml", "--space", RATES, "--seeds", "3", "4", "--trials", "6")
    *good, bad = _trials()
    assert [trial["settings"]["optimizer.learning_rate"] for trial in good] == rates
    assert [trial["state"] for trial in good] == ["complete"] * 5
    assert (bad["state"], bad["reason"]) == ("pruned", "worse than others after 160 agent steps")
    assert bad["scores"] == {}
    assert "running=0 seeds_agent_steps_returns=3:" in capsys.readouterr().out


def test_a_signal_keeps_the_trial_and_the_same_command_goes_on(program, monkeypatch):
    program.let_new_trainings_wait(True)
    sent = []

    def look(search) -> None:
        if program.waiting and not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    words = ["mine.yaml", "--space", RATES, "--seeds", "3", "4", "--trials", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.Search, "_look", look)
        _tune(*words, code=143)
    assert [trial["state"] for trial in _trials()] == ["running"]
    assert {call[0] for call in program.calls()} == {"jaxpg.train"}, "the page was not begun"
    program.let_new_trainings_wait(False)
    _tune(*words)
    assert [trial["state"] for trial in _trials()] == ["complete"] * 2
    assert any("--resume" in call for call in program.calls()), "the other seed may not have begun"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["mine.yaml"], "what varies? give either --space SETTING=VALUES ... or --search FILE.yaml"),
        (["mine.yaml", "--space", RATES, "--search", "x.yaml"], "what varies? give either"),
        (["mine.yaml", "--search", "x.yaml"], "x.yaml: cannot read the recipe: No such file"),
        (["pnog", "--space", RATES], "pnog: neither a file nor a recipe that comes with jaxpg; did you mean 'pong'?"),
        (["mine.yaml", "--space", "optimiser.learning_rate=1:2"], "space: optimiser.learning_rate: unknown key"),
        (["mine.yaml", "--space", RATES, "--trials", "0"], "trials: from 1, not 0"),
        (["mine.yaml", "--space", RATES, "--workers", "-1"], "workers: from 1 to 256, not -1"),
        (["mine.yaml", "--space", RATES, "--parallel", "999"], "parallel: from 1 to 256, not 999"),
        (["mine.yaml", "--space", RATES, "--seeds", "1", "1"], "seeds: give one or more, each once"),
        (["mine.yaml", "--space", RATES, "--seeds", "-1"], "run.seed: input should be greater than or equal to 0"),
        (["mine.yaml", "--space", RATES, "--score", "steps"], "target: the score steps needs a mean return to reach"),
        (["mine.yaml", "--space", RATES, "--target", "3"], "target: only the score steps has one"),
        (
            ["mine.yaml", "--space", RATES, "--", "--env.gmae", "x"],
            "unknown flag --env.gmae; did you mean '--env.game'?",
        ),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_begins(program, capsys, argv, sentence):
    _tune(*argv, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxpg: ")
    assert sentence in line
    assert not Path("out").exists()


def test_without_optuna_a_sentence_says_how_to_install_it(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    _tune("mine.yaml", "--space", RATES, code=2)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = project["optional-dependencies"]["tune"]
    sentence = f"jaxpg: jaxpg tune needs Optuna, which is not installed; pip install '{extra}'\n"
    assert capsys.readouterr().err == sentence


def test_python_has_the_search_as_a_function(program):
    space = {"optimizer.learning_rate": {"low": 0.001, "high": 0.1}}
    found = jaxpg.tune("mine.yaml", space, "out", seeds=[3], trials=1)
    assert [trial.state for trial in found.trials] == ["complete"]


@pytest.mark.long
def test_a_killed_study_goes_on_to_the_bit_and_two_processes_share_it(place):
    """Real trainings. SIGKILL for the command lets its trainings save and end; the next command goes on with them."""
    Path("mine.yaml").write_text(RECIPE.replace("640", "64000"))
    space = ["--space", "optimizer.learning_rate=5e-4,1e-2", "--seeds", "1", "2", "--prune", "none"]
    command = [sys.executable, "-m", "jaxpg", "tune", "mine.yaml", *space, "--study", "out", "--trials"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([*command, "1"], env=environment) as killed:
        lines = [Path(f"out/trials/0000/seed{seed}/metrics.jsonl") for seed in (1, 2)]
        while not any(path.exists() and len(path.read_bytes().splitlines()) > 20 for path in lines):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    both = [subprocess.Popen([*command, "2"], env=environment) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    trials = _trials()
    assert [trial["state"] for trial in trials] == ["complete"] * 2
    assert trials[0]["settings"] == {"optimizer.learning_rate": 5e-4}
    logs = [Path(f"out/trials/0000/seed{seed}.log").read_text() for seed in (1, 2)]
    assert any("SIGTERM" in log or "interrupted" in log for log in logs), "the trainings ended with their parent"
    training = Training(Path("whole"), load_recipe(Path("out/trials/0000/seed1.yaml")))
    subprocess.run(training.command(), check=True, env=environment)
    assert untimed(records(Path("whole"))) == untimed(records(Path("out/trials/0000/seed1")))
    subprocess.run(
        [sys.executable, "-m", "jaxpg", "train", "out/best.yaml", "--run.dir", "best"], check=True, env=environment
    )
    assert Path("out/tune.html").stat().st_size > 10_000
