"""One trainer at a time in a run folder, and nothing written through a link."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.run.lock import only_trainer
from tests.runs import check_whole

HOLD = """
import sys
from pathlib import Path
from jaxpg.run.lock import only_trainer

with only_trainer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_trainer_is_refused_with_the_first_ones_process_and_host(holder, tmp_path):
    refused = rf"run: process {holder.pid} on {socket.gethostname()} trains there"
    with pytest.raises(UserError, match=refused), only_trainer(tmp_path / "run"):
        pass
    (tmp_path / "run" / "trainer.json").write_text("half")
    with pytest.raises(UserError, match="run: another process trains there"), only_trainer(tmp_path / "run"):
        pass


def test_a_full_disk_is_a_sentence_and_the_lock_is_free_again(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with (
            pytest.raises(UserError, match="run.dir: cannot write .*run: No space left"),
            only_trainer(tmp_path / "run"),
        ):
            pass
    with only_trainer(tmp_path / "run"):
        pass


def test_a_file_system_without_locks_holds_one_trainer_too(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder, refused = tmp_path / "run", f"run: process {os.getpid()} on .* trains there"
    soft = pytest.warns(UserWarning, match="falling back to SoftFileLock")
    with soft, only_trainer(folder), pytest.raises(UserError, match=refused), only_trainer(folder):
        pass


def test_the_lock_of_a_killed_trainer_holds_nobody_up(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert str(holder.pid) in (tmp_path / "run" / "trainer.json").read_text()
    with only_trainer(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / "trainer.json").read_text()


def test_the_command_refuses_a_folder_that_is_trained_in(uninterrupted, capsys):
    from jaxpg.train import main

    with only_trainer(uninterrupted), pytest.raises(SystemExit) as end:
        main(["--resume", str(uninterrupted)])
    assert end.value.code == 2
    assert f"process {os.getpid()} on" in capsys.readouterr().err
    check_whole(uninterrupted, iterations=20)


def test_the_lock_is_given_back_at_the_end_even_of_a_failure(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError), only_trainer(folder):
        raise RuntimeError
    for _ in range(2):
        with only_trainer(folder), (folder / "lock").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "lock", "tensorboard/events"])
def test_a_folder_with_links_is_not_written_in(name, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not yours")
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{name}: a run folder must not contain"), only_trainer(tmp_path / "run"):
        pass
    assert elsewhere.read_text() == "not yours"
    assert [path.name for path in Path(tmp_path / "run").iterdir()] == [Path(name).parts[0]]
