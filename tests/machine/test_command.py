"""From a command's arguments to its exit code, and what its process says."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jaxpg.core.errors import FaultError
from jaxpg.machine.command import module_command, run_command
from tests.runs import ONE_ITERATION


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("INVALID_ARGUMENT: shapes")])
def test_what_is_no_mistake_of_the_user_keeps_its_traceback(error: Exception) -> None:
    def broken(argv: Sequence[str]) -> int:
        raise error

    with pytest.raises(type(error)):
        run_command(broken, [])


@pytest.mark.parametrize("code", [0, 130, 143])
def test_the_command_ends_with_its_exit_code(code: int) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(lambda argv: code, [])
    assert end.value.code == code


def command(*argv: str, cwd: Path) -> subprocess.CompletedProcess:
    """The real command in a process of its own; what it says on a busy machine while one waits is left out."""
    done = subprocess.run(
        [sys.executable, "-m", "jaxpg.train", *argv], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    done.stdout = re.sub(r"^jaxpg: (building|making|compiling|saving)\b.*\n", "", done.stdout, flags=re.MULTILINE)
    return done


def test_a_real_process_refuses_in_one_sentence(tmp_path: Path) -> None:
    done = command("--env.game", "Pnog", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jaxpg: env.game: unknown name 'Pnog'; did you mean 'Pong'?\n"
    assert not list(tmp_path.iterdir())


def test_a_real_process_trains_and_says_nothing_on_stderr(tmp_path: Path) -> None:
    done = command(*ONE_ITERATION, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("Count-seed1-")
    first, line, last = done.stdout.splitlines()
    assert first.startswith("jaxpg: Count on probe, 2 lanes, ")
    assert line.startswith("iteration=1 agent_steps=8 ")
    assert last.startswith("jaxpg: budget of agent steps used; 8 agent steps, ")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [(KeyboardInterrupt(), 130, "interrupted"), (FaultError("an emulator failed: x"), 1, "an emulator failed: x")],
)
def test_ctrl_c_and_a_fault_are_one_line(
    capsys: pytest.CaptureFixture, error: BaseException, code: int, sentence: str
) -> None:
    def command(argv: Sequence[str]) -> int:
        raise error

    with pytest.raises(SystemExit) as end:
        run_command(command, [])
    assert end.value.code == code
    assert capsys.readouterr().err == f"jaxpg: {sentence}\n"


@pytest.mark.parametrize(
    "said",
    [
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5520758552 bytes.",
        "INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above for more details.",
    ],
)
def test_memory_that_is_used_up_is_one_sentence(capsys: pytest.CaptureFixture[str], said: str) -> None:
    def fail(argv: Sequence[str]) -> int:
        raise RuntimeError(f"{said}\nand a page of buffers")

    with pytest.raises(SystemExit) as ended:
        run_command(fail, [])
    assert ended.value.code == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"jaxpg: memory is used up: {said}; use fewer lanes, ")
    assert sentence.endswith(" with XLA_CLIENT_MEM_FRACTION")


def test_a_command_in_another_process_imports_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    program = [*module_command("json.tool")[:-2], "-c", "import json; print(json.__name__)"]
    assert subprocess.check_output(program, text=True) == "json\n"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "-P" not in module_command("jaxpg.train"), "as for python -m jaxpg.train in a clone"
