"""A training in a folder: what is left to do, read from the disk."""

import ast
import inspect
import json
import textwrap
import threading
from dataclasses import replace

import pytest
from filelock import FileLock

from jaxpg.config import Config, dump, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.run import lock
from jaxpg.run import training as training_module
from jaxpg.suite import trained_folder
from jaxpg.suite.trained_folder import ENDS, Point, Training, return_at
from tests.suite_fakes import FakeProgram

CONFIG = with_overrides(Config(), {"run.budget_agent_steps": 1000})


@pytest.fixture
def program(tmp_path, monkeypatch):
    return FakeProgram(tmp_path / "program", monkeypatch)


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / "mine", CONFIG)


def _leave(training, config=CONFIG, **end):
    training.folder.mkdir()
    (training.folder / "config.yaml").write_text(dump(config))
    if end:
        content = {"agent_steps": 1000, "wall_seconds": 7.0, **end}
        (training.folder / "summary.json").write_text(json.dumps(content))


def test_a_new_training_is_begun_from_the_recipe_beside_its_folder(training, program):
    command = training.command()
    assert command[-4:] == ["jaxpg.train", str(training.recipe), "--run.dir", str(training.folder)]
    assert training.recipe.read_text() == dump(CONFIG)


def test_what_the_configuration_imports_is_imported_by_the_training_and_a_begun_run_imports_nothing_here(
    training, program, tmp_path
):
    mine = str(tmp_path / "mine.py")
    imports = Training(training.folder, replace(CONFIG, imports=(mine,)))
    assert imports.command()[-2:] == ["--imports", mine]
    _leave(training, imports.config)
    (tmp_path / "mine.py").write_text("raise SystemExit('a run folder is read')")
    imports.check()
    assert imports.command()[-2:] == ["--imports", mine]
    with pytest.raises(UserError, match="a run with other settings: its imports is"):
        training.check()


@pytest.mark.parametrize("end", [{}, {"ended": "SIGTERM"}, {"ended": "emulators fell silent"}, {"ended": None}])
def test_an_interrupted_training_is_resumed_whether_it_has_a_checkpoint_or_not(training, program, end):
    _leave(training, **end)
    budgets = ["--run.budget-agent-steps", "1000", "--run.budget-seconds", "0.0"]
    assert training.command()[-7:] == ["jaxpg.train", "--resume", str(training.folder), *budgets]


@pytest.mark.parametrize("ended", ENDS)
def test_a_training_that_ended_by_itself_is_over(training, ended):
    config = with_overrides(CONFIG, {"run.budget_seconds": 7.0})
    training = Training(training.folder, config)
    _leave(training, config, ended=ended)
    training.check()
    assert training.command() is None


@pytest.mark.parametrize(
    ("ended", "budget"),
    [
        ("budget of agent steps used", {"run.budget_agent_steps": 2000}),
        ("budget of seconds used", {"run.budget_seconds": 20.0}),
        ("budget of seconds used", {"run.budget_seconds": 0.0}),
    ],
)
def test_a_larger_budget_lets_a_finished_training_go_on(training, ended, budget):
    _leave(training, ended=ended)
    larger = Training(training.folder, with_overrides(CONFIG, budget))
    larger.check()
    assert "--resume" in larger.command()


def test_a_run_with_other_settings_is_refused(training):
    _leave(training)
    other = Training(training.folder, with_overrides(CONFIG, {"optimizer.learning_rate": 0.25}))
    with pytest.raises(UserError, match=r"its optimizer\.learning_rate is 0\.0005, not 0\.25; remove it or choose"):
        other.check()
    Training(training.folder, replace(CONFIG, run=replace(CONFIG.run, dir="elsewhere"))).check()


def test_a_training_waits_for_an_earlier_one_that_is_still_saving(training, monkeypatch):
    assert trained_folder.LOCK == lock.LOCK
    monkeypatch.setattr(trained_folder, "SECONDS_TO_WAIT", 0.1)
    _leave(training)
    with FileLock(training.folder / lock.LOCK):
        assert "--resume" in training.command(), "the training itself says who holds the lock"
    monkeypatch.setattr(trained_folder, "SECONDS_TO_WAIT", 20.0)
    saving, saved = FileLock(training.folder / lock.LOCK, thread_local=False), []
    saving.acquire()

    def save() -> None:
        saved.append(True)
        saving.release()

    timer = threading.Timer(0.2, save)
    timer.start()
    assert "--resume" in training.command()
    assert saved == [True]
    timer.join()


def test_iterations_are_read_as_far_as_they_can_be(training):
    assert training.points() == []
    _leave(training)
    good = {"agent_steps": 10, "wall_seconds": 1.5, "episodes": 0, "return_mean_100": None, "entropy": 1.0}
    lines = [json.dumps(good), '{"agent_steps": 3}', "[1]", json.dumps({**good, "agent_steps": 20, "episodes": 1})[:-9]]
    lines[1:1] = [json.dumps({**good, "agent_steps": odd}) for odd in ([], None, 1e999, 10**400)]
    (training.folder / "metrics.jsonl").write_text("\n".join(lines))
    assert training.points() == [Point(10, 1.5, 0, None)]


def test_the_return_at_some_agent_steps_is_that_of_the_iteration_before():
    points = [Point(10, 1, 0, None), Point(20, 2, 1, 5.0), Point(30, 3, 2, 6.0)]
    assert [return_at(points, steps) for steps in (9, 10, 20, 29, 30, 99)] == [None, None, 5.0, 5.0, 6.0, 6.0]


def test_the_ends_are_those_of_the_training():
    source = ast.parse(textwrap.dedent(inspect.getsource(training_module.Training._reason_to_end)))
    returned = [node.value for node in ast.walk(source) if isinstance(node, ast.Return)]
    sentences = {value.value for value in returned if isinstance(value, ast.Constant) and value.value}
    assert sentences - set(ENDS) == {"a callback ended the run"}
    assert set(ENDS) < sentences


@pytest.mark.parametrize("used", [None, [], "9999999"])
def test_a_summary_that_jaxpg_did_not_write_is_no_end(training, used):
    _leave(training)
    summary = {"ended": "budget of agent steps used", "agent_steps": used}
    (training.folder / "summary.json").write_text(json.dumps(summary))
    assert not training.is_over()
