"""Works of several commands in child processes, with small real processes."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from jaxpg.machine.signals import Stop
from jaxpg.suite import works
from jaxpg.suite.works import Ended, OneCommand, Processes, run_until_idle

SECONDS = 20.0
"""Far more than anything here takes."""


class Steps:
    """A work whose steps each write a file; done when all files are there."""

    def __init__(self, folder: Path, name: str, *scripts: str):
        self.name, self.log = name, folder / f"{name}.log"
        self._files = {folder / f"{name}.{i}": script for i, script in enumerate(scripts)}

    def next_command(self) -> list[str] | None:
        for path, script in self._files.items():
            if not path.exists():
                return [sys.executable, "-I", "-S", "-c", f"import os, sys, time\npath = {str(path)!r}\n{script}"]
        return None


DONE = "open(path, 'w').write(str(sorted(os.sched_getaffinity(0))))"


def _all(processes: Processes) -> list[Ended]:
    ended: list[Ended] = []
    stop = Stop()
    try:
        run_until_idle(processes, stop, ended.append, lambda: None)
    finally:
        stop.restore()
    return ended


def _wait(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr(works, "SECONDS_BETWEEN_LOOKS", 0.02)


def test_each_work_takes_its_commands_one_after_another_and_skips_what_is_done(tmp_path):
    (tmp_path / "b.0").touch()
    processes = Processes(2)
    mine = [Steps(tmp_path, "a", DONE, DONE), Steps(tmp_path, "b", "print('twice'); sys.exit(3)", DONE)]
    for work in mine:
        processes.add(work)
    ended = _all(processes)
    assert {one.work.name: (one.failure, one.exit_code) for one in ended} == {"a": (None, 0), "b": (None, 0)}
    assert (tmp_path / "a.1").exists()
    assert (tmp_path / "b.1").exists()


def test_a_work_that_cannot_write_what_its_command_reads_has_failed_and_the_others_go_on(tmp_path):
    class Full(Steps):
        def next_command(self):
            raise OSError(28, "No space left on device")

    processes = Processes(1)
    for work in (Full(tmp_path, "a"), Steps(tmp_path, "b", DONE)):
        processes.add(work)
    ended = {one.work.name: (one.failure, one.exit_code) for one in _all(processes)}
    assert ended == {"a": (f"{tmp_path}: No space left on device", 1), "b": (None, 0)}


def test_a_failure_is_the_last_line_of_this_call_and_the_others_go_on(tmp_path):
    for name in ("bad", "silent"):
        (tmp_path / f"{name}.log").write_text("jaxpg: an older failure\n")
    processes = Processes(1)
    bad = Steps(tmp_path, "bad", "print('x', flush=True); print('jaxpg: no such game', file=sys.stderr); sys.exit(2)")
    for work in (bad, Steps(tmp_path, "silent", "sys.exit(7)"), Steps(tmp_path, "good", DONE)):
        processes.add(work)
    found = {one.work.name: (one.failure, one.exit_code) for one in _all(processes)}
    assert found == {"bad": ("no such game", 2), "silent": ("exit code 7", 7), "good": (None, 0)}
    assert (tmp_path / "bad.log").read_text() == "jaxpg: an older failure\nx\njaxpg: no such game\n"


def test_a_command_that_leaves_nothing_is_not_repeated_for_ever(tmp_path):
    processes = Processes(1)
    processes.add(Steps(tmp_path, "a", "pass"))
    (ended,) = _all(processes)
    assert ended.failure == "the command succeeded and left nothing; see its log"


def test_no_more_run_than_allowed_and_each_on_its_share_of_the_cores(tmp_path):
    mine = sorted(os.sched_getaffinity(0))
    processes = Processes(len(mine))
    works_ = [Steps(tmp_path, str(i), DONE) for i in range(len(mine) + 1)]
    for work in works_:
        processes.add(work)
    processes.poll()
    assert [work.name for work in processes.running] == [work.name for work in works_[:-1]]
    _all(processes)
    assert {(tmp_path / f"{i}.0").read_text() for i in range(len(mine))} == {str([core]) for core in mine}
    assert sorted(os.sched_getaffinity(0)) == mine


def test_each_runs_on_its_share_of_the_gpus(tmp_path, monkeypatch):
    (tmp_path / "jax_plugins" / "xla_cuda13").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "xla_cuda13" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    seen = "open(path, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    processes = Processes(2)
    for name in ("a", "b"):
        processes.add(Steps(tmp_path, name, seen, seen))
    _all(processes)
    assert {(tmp_path / f"{name}.0").read_text() for name in ("a", "b")} == {"5", "6"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,6"


@pytest.mark.parametrize("deaf", [False, True])
def test_a_work_that_is_ended_gets_time_to_save(tmp_path, monkeypatch, deaf):
    """A process that does not end is killed."""
    monkeypatch.setattr(works, "SECONDS_TO_END", 0.3 if deaf else SECONDS)
    saves = f"open({str(tmp_path / 'saved')!r}, 'w'); sys.exit(143)"
    handler = "signal.SIG_IGN" if deaf else f"lambda number, frame: exec({saves!r})"
    script = f"import signal; signal.signal(signal.SIGTERM, {handler})\n{DONE}\ntime.sleep(60)"
    processes, one, other = Processes(1), Steps(tmp_path, "one", script), Steps(tmp_path, "other", DONE)
    processes.add(one)
    processes.add(other)
    processes.poll()
    _wait((tmp_path / "one.0").exists)
    processes.end([one])
    assert (tmp_path / "saved").exists() != deaf
    assert processes.running == []
    assert [ended.work for ended in _all(processes)] == [other], "one was asked to end, so it has not failed"


def test_a_signal_ends_the_works_and_starts_no_others(tmp_path):
    processes = Processes(1)
    script = f"{DONE}\ntime.sleep(60)"
    for name in ("one", "other"):
        processes.add(Steps(tmp_path, name, script))
    stop = Stop()
    stop.note_signals()

    def look() -> None:
        if (tmp_path / "one.0").exists() and stop.signal is None:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        run_until_idle(processes, stop, lambda ended: pytest.fail("nothing has ended by itself"), look)
    finally:
        stop.restore()
    assert (stop.signal, processes.is_idle, (tmp_path / "other.0").exists()) == (signal.SIGTERM, True, False)


def test_one_command(tmp_path):
    processes = Processes(1)
    processes.add(OneCommand(tmp_path / "log", [sys.executable, "-c", "print('said')"]))
    processes.add(OneCommand(tmp_path / "log", [str(tmp_path / "missing")]))
    said, missing = sorted(_all(processes), key=lambda ended: ended.failure or "")
    assert (said.failure, (tmp_path / "log").read_text()) == (None, "said\n")
    assert missing.failure == f"{tmp_path / 'missing'}: No such file or directory"
