"""``run.record_every``: real videos beside a training that does not notice, and recorders that fail or are ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import pytest

from jaxpg.machine.signals import Stop
from jaxpg.run.recorder import Recorder
from jaxpg.run.session import _wait_for_videos
from jaxpg.run.writers import JsonLines
from tests.runs import Signals, games, records, run, saved, summary, untimed

PONG = [
    *("--env.game", "Pong", "--env.num-lanes", "2", "--env.max-episode-agent-steps", "20"),
    *("--reinforce.rollout-agent-steps", "8", "--policy.hidden", "8", "--run.target-return", "None"),
    *("--checkpoint.every-iterations", "4", "--checkpoint.keep-newest", "1"),
]


def _pong(folder: Path, *argv: str, iterations: int = 7, code: int = 0) -> Path:
    run(*PONG, "--run.dir", str(folder), "--run.budget-agent-steps", str(iterations * 16), *argv, code=code)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven iterations without a recorder."""
    return _pong(tmp_path_factory.mktemp("recorder") / "run")


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real recorders start as with ``nice``, but do not wait for a core that no other test wants."""
    path = tmp_path / "bin" / "nice"
    path.parent.mkdir()
    path.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file whose shell commands stand for ``python``; ``started`` beside it lists what it was started for."""
    path = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def _write_program(path: Path, commands: str) -> None:
    path.write_text(f'#!/bin/sh\necho "$5 $JAX_PLATFORMS $(nice)" >>{path.parent}/started\n{commands}\n')
    path.chmod(0o755)


def _started(program: Path) -> list[str]:
    return (program.parent / "started").read_text().splitlines()


def _wait_for(path: Path, wanted: bool = True) -> None:
    deadline = time.monotonic() + 60
    while wanted and not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


@pytest.mark.usefixtures("prompt")
@pytest.mark.long
def test_a_run_is_recorded_and_learns_the_same(trained: Path, tmp_path: Path) -> None:
    recorded = _pong(tmp_path / "a run", "--run.record-every", "3")
    videos = recorded / "videos"
    assert {path.name for path in videos.iterdir()} == {"3.mp4", "3.json", "6.mp4", "6.json", "record.log"}
    assert all((videos / f"{iteration}.mp4").stat().st_size > 1000 for iteration in (3, 6))
    assert [json.loads((videos / f"{n}.json").read_text())["checkpoint"] for n in (3, 6)] == [3, 6]
    assert (videos / "record.log").read_text().count("of video in") == 2
    assert not (trained / "videos").exists()
    assert untimed(records(recorded)) == untimed(records(trained))
    assert untimed(games(recorded)) == untimed(games(trained))
    ours, theirs = saved(recorded), saved(trained)
    assert [ours[0], theirs[0]] == [[3, 6, 7], [7]], "recorded checkpoints are kept for good"
    assert ours[1] == theirs[1]
    assert replace(ours[2], wall_seconds=0) == replace(theirs[2], wall_seconds=0)


def test_a_resumed_run_goes_on_recording(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """On the CPU, with the lowest priority."""
    _write_program(program, "exit 0")
    folder = _pong(tmp_path / "run", "--run.record-every", "3", iterations=4)
    run("--resume", str(folder), "--run.budget-agent-steps", str(10 * 16))
    assert _started(program) == [f"{iteration} cpu 19" for iteration in (3, 6, 9)]
    assert saved(folder)[0] == [3, 6, 9, 10]
    assert capsys.readouterr().err == ""


def test_a_recorder_is_told_whose_end_is_its_own(program: Path, tmp_path: Path) -> None:
    program.write_text(f'#!/bin/sh\necho "$JAXPG_PARENT" >{tmp_path}/parent\n')
    program.chmod(0o755)
    recorder = Recorder(tmp_path)
    recorder.add(4)
    while recorder.unrecorded:
        recorder.wait(1.0)
    assert (tmp_path / "parent").read_text() == f"{os.getpid()}\n"


KILLED = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-m", "jaxpg.record"], env={**os.environ, "JAXPG_PARENT": str(os.getpid())}
)
os.kill(os.getpid(), 9)
"""
SLOW_IMPORTS = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print("importing", flush=True)
            time.sleep(60)
            print("imported", flush=True)

sys.meta_path.insert(0, Slow())
"""


def test_a_recorder_ends_with_its_trainer(tmp_path: Path) -> None:
    """Its stdout stays open, and communicate waits, as long as it lives."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORTS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    trainer = subprocess.run([sys.executable, "-S", "-c", KILLED], capture_output=True, env=environment, check=False)
    assert trainer.returncode == -signal.SIGKILL
    assert b"imported" not in trainer.stdout


def test_no_more_than_one_recorder_is_there_at_a_time(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    busy = tmp_path / "busy"
    _write_program(program, f"mkdir {busy} || exit 1\nsleep 0.3\nrmdir {busy}")
    folder = _pong(tmp_path / "run", "--run.record-every", "1", iterations=3)
    assert _started(program) == [f"{iteration} cpu 19" for iteration in (1, 2, 3)]
    assert capsys.readouterr().err == ""
    assert summary(folder)["iteration"] == 3


@pytest.mark.usefixtures("prompt")
def test_a_recorder_that_fails_is_a_warning(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    recorder = Recorder(folder)
    recorder.add(7)
    while recorder.unrecorded:
        recorder.wait(1.0)
    video = folder / "videos" / "7.mp4"
    reason = f"{video}: the video cannot be encoded: no such codec"
    assert capsys.readouterr().err == f"jaxpg: checkpoint 7 was not recorded: {reason}\n"
    assert [path.name for path in video.parent.iterdir()] == ["record.log"]


@pytest.mark.parametrize(
    ("commands", "reason"),
    [("echo bad luck >&2; exit 1", "bad luck"), ("exit 3", "exit code 3"), (None, "No such file or directory")],
)
def test_training_outlives_every_failure_to_record(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture, commands: str | None, reason: str
) -> None:
    if commands:
        _write_program(program, commands)
    folder = _pong(tmp_path / "run", "--run.record-every", "1", iterations=2)
    assert summary(folder)["ended"] == "budget of agent steps used"
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    for iteration, warning in enumerate(warnings, 1):
        assert warning.startswith(f"jaxpg: checkpoint {iteration} was not recorded: ")
        assert warning.endswith(reason)


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "videos").touch()
    recorder = Recorder(tmp_path)
    recorder.add(4)
    assert recorder.unrecorded == []
    assert capsys.readouterr().err == f"jaxpg: checkpoint 4 was not recorded: {tmp_path}/videos: File exists\n"


def test_a_signal_ends_the_recorder_and_names_what_was_not_recorded(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ready = program.parent / "ready"
    _write_program(
        program, f"trap 'echo interrupted >>{program.parent}/started; exit 130' INT\n: >{ready}\nsleep 9 & wait"
    )
    Signals(monkeypatch).send(signal.SIGTERM, iteration=5)
    write = JsonLines.write
    monkeypatch.setattr(JsonLines, "write", lambda *args: (_wait_for(ready, args[1]["iteration"] >= 5), write(*args)))
    folder = _pong(tmp_path / "a run", "--run.record-every", "2", iterations=9, code=143)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"jaxpg: not recorded: 2, 4; python -m jaxpg.record '{folder}' --checkpoint 2 4"
    )
    assert _started(program) == ["2 cpu 19", "interrupted"]


def test_a_signal_while_the_last_videos_are_made(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A recorder that does not listen is killed with all that it started, and its unfinished video goes."""
    folder = tmp_path / "run"
    unfinished = folder / "videos" / ".2.unfinished.mp4"
    _write_program(program, f"trap '' INT\n: >{unfinished}\nkill -TERM {os.getpid()}\nsleep 60\n: >{tmp_path}/late")
    monkeypatch.setattr("jaxpg.run.recorder.SECONDS_TO_END", 0.5)
    _pong(folder, "--run.record-every", "2", iterations=2, code=143)
    assert summary(folder)["iteration"] == 2
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"jaxpg: not recorded: 2; python -m jaxpg.record {folder} --checkpoint 2"
    assert [path.name for path in unfinished.parent.iterdir()] == ["record.log"]
    assert not (tmp_path / "late").exists()


@pytest.mark.long
@pytest.mark.usefixtures("prompt")
def test_a_real_recorder_that_is_ended_leaves_nothing_unfinished(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("max_episode_agent_steps: 20\n", "max_episode_agent_steps: 4000\n"))
    recorder, unfinished = Recorder(folder), folder / "videos" / ".7.unfinished.mp4"  # of a game of many seconds
    recorder.add(7)
    _wait_for(unfinished)
    recorder.close()
    assert [path.name for path in unfinished.parent.iterdir()] == ["record.log"]


def test_at_the_end_it_is_said_how_many_videos_are_left_and_where_they_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class TwoLeft:
        unrecorded: ClassVar = [3, 6]

        def wait(self, seconds: float) -> None:
            self.unrecorded.pop()

    monkeypatch.setattr("jaxpg.run.session.said_while_waiting", lambda what: said.append(what) or nullcontext())
    _wait_for_videos(cast(Recorder, TwoLeft()), Path("runs/a"), Stop())
    assert said == ["waiting for 2 videos in runs/a/videos", "waiting for 1 video in runs/a/videos"]
