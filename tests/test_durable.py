"""Files that several processes write at the same time."""

import os
import threading
from pathlib import Path

import pytest

from jaxpg.machine.durable_files import write_text


def test_a_file_that_several_write_at_once_is_one_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have begun before one is ready: their unfinished files must not be the same."""
    path, begun, replace = tmp_path / "page.html", threading.Barrier(2), os.replace

    def replace_later(source: Path, target: Path) -> None:
        begun.wait(30)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_later)
    failed: list[Exception] = []

    def write(letter: str) -> None:
        try:
            write_text(path, letter * 100_000)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert path.read_text() in ("a" * 100_000, "b" * 100_000)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_text(tmp_path / "page.html", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
