"""What is said where nobody may hear it: processes of their own, which take a twentieth of a second each."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from jaxpg.cli import parse_train
from jaxpg.machine.command import run_command
from jaxpg.machine.console import Forgiving, HelpText, say, speaking
from tests.runs import nobody_reads_stdout

SPEAK = "from jaxpg.machine.console import flush, say, speak; speak(); "
SAYS = f"""
{SPEAK}
[say('Bär ' * 9_000, error=e) for e in (0, 1)]; print('unsaid'); flush()
"""


def _ends_well(code: str, **streams) -> bytes:
    """Runs Python code that has to end with 0 and without a traceback; returns what it said on stderr."""
    stderr = streams.pop("stderr", subprocess.PIPE)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", code], stderr=stderr, check=False, timeout=60, env=env, **streams)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    return done.stderr


@pytest.mark.parametrize("where", ["pipe", "full disk", "terminal"])
def test_words_that_nobody_takes_cost_nothing_else(where: str) -> None:
    if where == "pipe":
        reader, writer = os.pipe()
    elif where == "terminal":
        reader, writer = pty.openpty()
    else:
        reader, writer = os.open(os.devnull, os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)
    os.close(reader)
    _ends_well(SAYS, stdout=writer, stderr=writer)
    os.close(writer)


def test_what_comes_after_a_failure_is_said() -> None:
    """A disk that was full for a while: stdout stands for it, which leads elsewhere later."""
    code = (
        f"{SPEAK} import os; kept = os.dup(1); full = os.open('/dev/full', os.O_WRONLY); "
        "os.dup2(full, 1); say('lost'); os.dup2(kept, 1); say('said')"
    )
    assert subprocess.check_output([sys.executable, "-c", code]) == b"said\n"


def test_a_locale_without_the_letters_gets_the_others() -> None:
    said = subprocess.check_output(
        [sys.executable, "-c", SPEAK + "say('B\\xe4r \\udcff')"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert said == b"B\\xe4r \\udcff\n"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stream_that_is_missing_is_not_taken_by_a_file(number: int, tmp_path: Path) -> None:
    code = (
        "import os, sys; from jaxpg.machine.command import run_command; from jaxpg.machine.console import say\n"
        "def command(argv):\n"
        f"  with open({str(tmp_path / 'metrics')!r}, 'w') as file: [os.write(n, b'noise') for n in (1, 2)]; say('x')\n"
        "  return 7\n"
        "run_command(command, [])"
    )
    shell = f'exec "$0" -c "$1" {number}>&-'
    done = subprocess.run(["sh", "-c", shell, sys.executable, code], capture_output=True, check=False)
    assert done.returncode == 7
    assert (tmp_path / "metrics").read_text() == ""


def test_a_stream_that_is_closed_later_is_no_error() -> None:
    _ends_well(f"import os; os.close(1); {SPEAK} say('x'); flush()")
    _ends_well(f"import sys; sys.stdout.close(); {SPEAK} say('x'); flush()")


def test_a_signal_handler_may_speak_while_something_is_written() -> None:
    class Busy:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    assert Forgiving(Busy()).write("x") == 1  # type: ignore[arg-type]


def test_help_into_a_pipe_that_closes_early_is_no_error() -> None:
    with nobody_reads_stdout():
        with pytest.raises(SystemExit) as end:
            run_command(lambda argv: parse_train(argv) and 0, ["--help"])
        assert end.value.code == 0


def test_what_is_said_is_one_line_and_gives_the_terminal_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking():
        say("a\x1b[31m\r\nb\u202e\x07 Bär")
    assert capsys.readouterr().out == r"a\x1b[31m\r\nb\u202e\x07 Bär" + "\n"


def test_a_help_text_has_lines_and_colours_and_gives_the_terminal_no_other_commands() -> None:
    written = io.StringIO()
    HelpText(written).write("\x1b[1mbold\x1b[0m\n\x1b]0;title\x07\x1b[2J\r")
    assert written.getvalue() == "\x1b[1mbold\x1b[0m\n" + r"\x1b]0;title\x07\x1b[2J\r"
