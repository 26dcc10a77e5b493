"""Files of strangers are read only where they are regular files of a bounded size, and JSON as runs write it."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import from_json, open_regular, read_json, read_regular
from jaxpg.core.strict_yaml import read_yaml
from jaxpg.machine.durable_files import damage, refuse_links
from jaxpg.run.writers import EpisodesCsv, JsonLines
from jaxpg.scores.evaluation_file import read_evaluations
from jaxpg.scores.study_file import read_study
from jaxpg.scores.suite_file import read_suite
from jaxpg.viewing.trace import trace_path

ROOT = Path(__file__).parents[2]
READERS: dict[str, Callable[[Path], object]] = {
    "open_regular": open_regular,
    "read_json": read_json,
    "read_yaml": read_yaml,
    "read_evaluations": read_evaluations,
    "read_study": read_study,
    "read_suite": read_suite,
    "metrics.jsonl": lambda path: JsonLines(path, 80),
    "episodes.csv": lambda path: EpisodesCsv(path, 80),
    "trace_path": lambda path: trace_path(path.with_suffix(".mp4")),
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_a_device_in_place_of_a_file_is_refused_at_once(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises((OSError, UserError)):
        READERS[reader](path)


def test_a_sealed_folder_whose_manifest_is_a_pipe_is_damaged(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    assert damage(tmp_path) == "manifest.json cannot be read"


def test_a_run_folder_holds_no_pipes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    refuse_links(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(UserError, match=r"a/pipe: a run folder contains only files and folders"):
        refuse_links(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("9" * 400, "more than 20 digits"),
        ("[1,", "Expecting value"),
        (b"\xff", "invalid start byte"),
    ],
)
def test_json_that_no_run_writes_is_a_value_error(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(text)


def test_nobody_reads_a_file_of_a_run_in_another_way() -> None:
    """Whoever reads a file as a whole without ``read_regular`` reads one that is not a stranger's."""
    own = {
        "machine/limits.py",  # the system's
        "machine/memory_estimate.py",
        "viewing/serving.py",  # the package's
        "viewing/report_page.py",  # and videos, which run_log.py has looked at
        "share/packing.py",  # of a folder without links, or just downloaded
        "share/pulling.py",
        "core/user_modules.py",  # of an imported module
        "run/recorder.py",  # of a folder without links, as are the next
        "run/writers.py",
        "run/trackers/tracker.py",
        "run/trackers/mlflow_run.py",
        "run/trackers/wandb_run.py",
    }
    found = {
        path.relative_to(ROOT / "jaxpg").as_posix()
        for path in (ROOT / "jaxpg").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("read_text", "read_bytes")
    }
    assert found == own
