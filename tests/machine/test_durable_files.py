"""Files are whole, however often a write breaks off and however many write at the same time."""

import json
import os
import resource
import threading
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.machine.durable_files import try_to_write, write_json, write_text


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


def test_a_disk_that_takes_empty_files_alone_is_full(tmp_path: Path) -> None:
    try_to_write(tmp_path / "runs", Path("page.html"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(UserError, match="page.html: cannot be written: File too large"):
            try_to_write(tmp_path / "runs", Path("page.html"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_text(tmp_path / "page.html", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_write_text_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "config.yaml"
    write_text(path, "old, and much longer\n")
    write_text(path, "neu: ä\n")
    assert path.read_bytes() == "neu: ä\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("breaks", ["os.replace", "os.fsync"])
def test_a_write_that_breaks_off_leaves_the_old_file_whole(breaks, tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"iteration": 1})

    def broken(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(breaks, broken)
        with pytest.raises(OSError, match="disk full"):
            write_json(path, {"iteration": 2})
    assert json.loads(path.read_text()) == {"iteration": 1}
    write_json(path, {"iteration": 3})
    assert json.loads(path.read_text()) == {"iteration": 3}
    assert os.listdir(tmp_path) == ["summary.json"]
