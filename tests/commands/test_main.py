"""``jaxpg`` and ``python -m jaxpg``: which commands there are, and what the environment may say to them."""

import importlib
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import jaxpg
from jaxpg.__main__ import COMMANDS, main
from jaxpg.cli import TrainArguments
from jaxpg.evaluate import EvaluateArguments
from jaxpg.launch import _parser
from jaxpg.machine.beginning import begin_command
from jaxpg.record import RecordArguments
from jaxpg.report import ReportArguments
from jaxpg.share.exporting import ExportArguments
from jaxpg.share.pulling import PullArguments
from jaxpg.share.pushing import PushArguments
from jaxpg.suite import SuiteArguments
from jaxpg.suite.tuning import TuneArguments
from tests.commands.test_cli import settings, squeezed

ARGUMENTS = {
    "train": TrainArguments,
    "evaluate": EvaluateArguments,
    "record": RecordArguments,
    "report": ReportArguments,
    "export": ExportArguments,
    "push": PushArguments,
    "pull": PullArguments,
    "tune": TuneArguments,
    "suite": SuiteArguments,
}
"""The arguments of each command but ``launch``, whose parser is argparse's."""


def _ended(capsys, *argv: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(argv)
    return end.value.code, *capsys.readouterr()


@pytest.mark.parametrize("argv", [(), ("--help",)])
def test_the_commands_are_listed(capsys, argv) -> None:
    code, out, err = _ended(capsys, *argv)
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert listed == list(COMMANDS)
    assert all(hasattr(importlib.import_module(f"jaxpg.{name}"), "main") for name in COMMANDS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_the_help_of_a_command_explains_every_flag(capsys, command: str) -> None:
    code, out, err = _ended(capsys, command, "--help")
    assert (code, err) == (0, "")
    shown, expected = squeezed(out), settings(ARGUMENTS[command])
    assert expected
    assert [(flag, words) for flag, words in expected if squeezed(words) not in shown] == []


def test_the_help_of_launch_does_too() -> None:
    assert set(ARGUMENTS) | {"launch"} == set(COMMANDS)
    assert all(action.help for action in _parser()._actions)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_versions(capsys, command) -> None:
    run = importlib.import_module(f"jaxpg.{command}").main if command else main
    with pytest.raises(SystemExit) as end:
        run(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"jaxpg {jaxpg.__version__}, jax {version('jax')}, Python ")


def test_an_unknown_command_is_a_sentence(capsys) -> None:
    assert _ended(capsys, "trian") == (2, "", "jaxpg: there is no command 'trian'; did you mean 'train'?\n")


def test_a_command_is_run_with_its_arguments() -> None:
    command = [sys.executable, "-m", "jaxpg", "launch", "--processes", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jaxpg: --processes: input should be from 1 to 256, not 0\n"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script ``jaxpg``, as pip writes it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["jaxpg"].partition(":")
    path = tmp_path_factory.mktemp("bin") / "jaxpg"
    path.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return path


def test_the_script_runs_a_command_with_its_arguments(script: Path) -> None:
    command = [sys.executable, str(script), "launch", "--processes", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jaxpg: --processes: input should be from 1 to 256, not 0\n"


@pytest.mark.parametrize("begins", [True, False])
def test_the_script_begins_before_jax_is_imported_and_a_library_does_not(script: Path, begins: bool) -> None:
    """Ctrl-C ends the process at once from the first import on, where it is a command."""
    code = "import jaxpg, signal, sys; print(signal.getsignal(signal.SIGINT).__name__, 'jax' in sys.modules)"
    program = script if begins else script.with_name("mine")
    words = [sys.executable, "-c", f"import sys; sys.argv = [{str(program)!r}, 'train']; {code}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    said = subprocess.check_output(words, text=True, env=environment)
    assert said.split() == ["end_at_once" if begins else "default_int_handler", "False"]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [("JAX_DEBUG_NANS", "maybe", "'JAX_DEBUG_NANS'"), ("JAX_ENABLE_X64", "maybe", "'JAX_ENABLE_X64'")],
)
def test_a_variable_that_jax_refuses_is_a_sentence(variable, value, sentence, script) -> None:
    command = [sys.executable, *([str(script), "train"] if variable == "JAX_ENABLE_X64" else ["-m", "jaxpg.train"])]
    environment = {**os.environ, variable: value}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("jaxpg: JAX refuses a variable of the environment: ")
    assert sentence in line


def test_64_bits_are_turned_off_with_a_remark(monkeypatch, capsys) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("JAX_ENABLE_X64", "True")
    begin_command()
    assert os.environ["JAX_ENABLE_X64"] == "0"
    assert capsys.readouterr().err == "jaxpg: computes in float32 and ignores JAX_ENABLE_X64\n"
