"""Emulators that fail or fall silent end the run with a sentence and all of it saved."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from jaxpg.envs.envpool import EnvPool
from jaxpg.run.watchdog import watched
from tests.runs import CARTPOLE, cartpole, check_whole, games, records, run, saved, summary, untimed

STEPPED = ("--env.num-pools", "2")
"""Two pools are stepped from Python: of 200 answers 192 are of twelve whole iterations, and two of the reset."""

FALL_SILENT = """
import sys, time
from jaxpg.envs.envpool import EnvPool
from jaxpg.train import main

recv, answers = EnvPool.recv, 0

def fall_silent(pool):
    global answers
    answers += 1
    if answers == 200:
        time.sleep(1000)
    return recv(pool)

EnvPool.recv = fall_silent
main(sys.argv[1:])
"""


IN_A_PROGRAM = """
import sys, time
from jax.experimental import io_callback
from jaxpg.envs.envpool import EnvPool
from jaxpg.train import main

what, *argv = sys.argv[1:]
compiled, answers = EnvPool.compiled, 0

def fault(first_byte):
    global answers
    answers += 1
    if answers == 100 and what == "fail":
        raise RuntimeError("ROM on fire")
    if answers == 100:
        time.sleep(1000)
    return first_byte

def faulty(pool):
    emulators = compiled(pool)

    def recv(handle):
        first_byte = io_callback(fault, handle[0], handle[0])
        return emulators.recv(handle.at[0].set(first_byte))

    return emulators._replace(recv=recv)

EnvPool.compiled = faulty
main(argv)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return cartpole(tmp_path_factory.mktemp("runs") / "whole", *STEPPED, iterations=20)


def check_goes_on_as_if_nothing_had_been(folder, whole):
    run("--resume", str(folder))
    check_whole(folder, iterations=20)
    assert untimed(records(folder)) == untimed(records(whole))
    assert untimed(games(folder)) == untimed(games(whole))
    assert saved(folder)[1] == saved(whole)[1]


def test_an_emulator_that_fails_ends_the_run_with_what_was_played(whole, tmp_path, monkeypatch, capsys):
    recv, answers = EnvPool.recv, []

    def fail(pool):
        answers.append(1)
        if len(answers) == 200:
            raise RuntimeError("ROM on fire")
        return recv(pool)

    with monkeypatch.context() as patch:
        patch.setattr(EnvPool, "recv", fail)
        folder = cartpole(tmp_path / "run", *STEPPED, "--checkpoint.every-iterations", "5", iterations=20, code=1)
    assert "jaxpg: ended by a fault; 384 agent steps" in capsys.readouterr().out
    assert summary(folder)["ended"] == "an emulator failed: ROM on fire"
    assert saved(folder)[0][-1] == len(records(folder)) == 12
    check_goes_on_as_if_nothing_had_been(folder, whole)


@pytest.mark.long
def test_emulators_that_fall_silent_end_the_process_with_what_was_played(whole, tmp_path):
    folder = tmp_path / "run"
    argv = [*CARTPOLE, *STEPPED, "--run.dir", str(folder)]
    argv += ["--run.budget-agent-steps", "640", "--env.timeout-seconds", "0.5"]
    process = subprocess.Popen([sys.executable, "-c", FALL_SILENT, *argv], stderr=subprocess.PIPE, text=True)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert said.splitlines() == [
        "jaxpg: the emulators have not answered for 4 seconds",
        "jaxpg: the run is saved; --resume goes on with it",
    ]
    assert saved(folder)[0][-1] == len(records(folder)) == 12
    check_goes_on_as_if_nothing_had_been(folder, whole)


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "sentences"),
    [
        ("fail", ["an emulator failed: INTERNAL: CpuCallback error"]),
        ("silent", ["the emulators have not answered for 4 seconds", "the run is saved; --resume goes on with it"]),
    ],
)
def test_so_does_what_happens_within_a_program(what, sentences, tmp_path):
    """Of 100 answers 96 are of whole iterations."""
    flags = [*CARTPOLE, "--run.budget-agent-steps", "640", "--env.timeout-seconds", "0.5"]
    folder, whole = tmp_path / "run", tmp_path / "whole"
    argv = [what, *flags, "--run.dir", str(folder)]
    command = [sys.executable, "-c", IN_A_PROGRAM, *argv]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert process.returncode == 1
    for sentence in sentences:
        assert sentence in process.stdout + process.stderr
    assert saved(folder)[0][-1] == len(records(folder)) == 12
    run("--resume", str(folder))
    run(*flags, "--run.dir", str(whole))
    check_whole(folder, iterations=20)
    assert untimed(records(folder)) == untimed(records(whole))
    assert untimed(games(folder)) == untimed(games(whole))


def test_only_the_time_that_the_process_runs_counts(monkeypatch):
    """While it is stopped, with Ctrl-Z say, its emulators are, too, and seem to have been silent afterwards."""
    monkeypatch.setattr("jaxpg.run.watchdog.SECONDS_BETWEEN_LOOKS", 0.01)
    exits = []
    monkeypatch.setattr("os._exit", exits.append)
    fleet = SimpleNamespace(num_lanes=0, waiting_since=time.monotonic() - 1000)
    with watched(fleet, timeout_seconds=0.5, save=lambda: False):
        time.sleep(0.1)
        assert exits == []
        time.sleep(3)
        assert exits[0] == 1
