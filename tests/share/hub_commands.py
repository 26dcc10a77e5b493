"""The commands ``jaxpg push`` and ``jaxpg pull`` as tests call them."""

from pathlib import Path

import pytest

from jaxpg.pull import main as pull_main
from jaxpg.push import main as push_main


def push(run: Path, *argv: str | Path, to: str = "me/pole", code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        push_main([str(run), "--to", to, *map(str, argv)])
    assert end.value.code == code


def pull(*argv: str | Path, name: str = "me/pole", code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        pull_main([name, *map(str, argv)])
    assert end.value.code == code


def error(capsys) -> str:
    """The one sentence on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("jaxpg: ")
