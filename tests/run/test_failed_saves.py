"""Saves that fail or are interrupted: the checkpoints stay as they were, and one thing is said of it."""

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from jaxpg.run import orbax_noise
from jaxpg.run.checkpoints import Checkpoints
from tests.checkpoint_states import METADATA, bits, state


def test_an_unfinished_save_is_no_checkpoint_and_is_taken_away(checkpoints, tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    checkpoints.save(3, state(), METADATA)
    unfinished = folder / "7.unfinished"
    (unfinished / "state").mkdir(parents=True)
    (unfinished / "state" / "half").write_bytes(b"x")
    assert checkpoints.iterations() == [3]
    assert bits(checkpoints.newest_whole(state(seed=1))[0]) == bits(state())
    assert "7.unfinished: this save was interrupted" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_what_is_written_after_a_save_has_failed_goes_with_the_next_save_and_at_the_end(tmp_path, monkeypatch):
    """Orbax's threads may go on for a moment."""
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)

    def fail_and_write_later(iteration: int) -> None:
        def full(*arguments):
            raise ValueError("RESOURCE_EXHAUSTED")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._orbax, "save", full)
            with pytest.raises(OSError, match="EXHAUSTED"):
                checkpoints.save(iteration, state(), METADATA)
        assert not any(folder.glob("*.unfinished"))
        (folder / f"{iteration}.unfinished" / "state.orbax-checkpoint-tmp").mkdir(parents=True)

    fail_and_write_later(3)
    checkpoints.save(4, state(), METADATA)
    assert [path.name for path in folder.iterdir()] == ["4"]
    fail_and_write_later(5)
    checkpoints.close()
    assert [path.name for path in folder.iterdir()] == ["4"]


def test_a_failed_save_leaves_the_checkpoints_as_they_were(checkpoints, tmp_path, monkeypatch):
    checkpoints.save(3, state(), METADATA)

    def full(folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("jaxpg.run.checkpoints.seal", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(5, state(seed=5), METADATA)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    checkpoints.save(5, state(seed=5), METADATA)
    assert bits(checkpoints.newest_whole(state())[0]) == bits(state(seed=5))


FAIL_IN_SAVES = """
import resource, sys
from pathlib import Path

import jax

from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.checkpoint_metadata import Metadata

checkpoints = Checkpoints(Path(sys.argv[1]))
state = {str(i): jax.random.normal(jax.random.key(i), (300, 300)) for i in range(40)}
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
for iteration in range(10):
    try:
        checkpoints.save(iteration, state, Metadata(progress=RunProgress(), games=None))
    except OSError:
        print("failed")
checkpoints.close()
"""
"""No file may grow beyond what fits: what a disk does that fills up between the look for room and the write."""


@pytest.mark.long
def test_a_save_that_fails_midway_says_one_thing_alone(tmp_path):
    command = [sys.executable, "-c", FAIL_IN_SAVES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "failed\n" * 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "message", "error", "dropped"),
    [
        ("asyncio/base_events.py", "Future exception was never retrieved", OSError(28, "No space left"), True),
        ("asyncio/base_events.py", "_GatheringFuture exception was never retrieved", ValueError("EXHAUSTED"), True),
        ("orbax/checkpoint/future.py", "_SignalingThread.run() raised an exception", ValueError("EXHAUSTED"), True),
        ("asyncio/base_events.py", "Future exception was never retrieved", KeyError("a fault of ours"), False),
        ("asyncio/base_events.py", "Executing took 3 seconds", None, False),
        ("orbax/checkpoint/future.py", "the folder is old", None, False),
        ("another/package.py", "cannot read", OSError(5, "Input/output error"), False),
    ],
)
def test_only_what_a_failed_save_leaves_is_not_logged(late_writes, file, message, error, dropped):
    logger = logging.getLogger("asyncio" if file.startswith("asyncio") else "absl")
    exc_info = (type(error), error, None) if error else None
    record = logger.makeRecord(logger.name, logging.ERROR, f"/site-packages/{file}", 1, message, (), exc_info)
    assert bool(logger.filter(record)) is not dropped


@pytest.mark.parametrize(
    ("file", "error", "dropped"),
    [
        ("/site-packages/orbax/serialization.py", RuntimeError("no running event loop"), True),
        ("/site-packages/tensorstore.py", RuntimeError("Event loop is closed"), True),
        ("/site-packages/another.py", RuntimeError("no running event loop"), False),
    ],
)
def test_only_coroutines_of_a_failed_save_end_unheard(late_writes, file, error, dropped):
    scope: dict[str, Any] = {}
    exec(compile("async def write(): ...", file, "exec"), scope)
    coroutine = scope["write"]()
    sys.unraisablehook(SimpleNamespace(object=coroutine, exc_value=error))
    coroutine.close()
    assert (late_writes == []) is dropped


@pytest.fixture
def late_writes(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What is told of exceptions that nobody catches."""
    told: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: told.append(raised.exc_value))
    for name in orbax_noise.LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    for _ in range(2):
        with orbax_noise.without_orbax_log():
            pass
    return told
