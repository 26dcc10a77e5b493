"""One run on several devices and in several processes is the run of one device, and ends when one of them dies."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxpg.config import load_recipe
from jaxpg.core.errors import UserError
from jaxpg.experiment import build
from jaxpg.parallel.children import free_port
from jaxpg.parallel.processes import DistributedConfig, check_distributed
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoints import Checkpoints
from tests.parallel.together import PER_ITERATION, RUNS, train
from tests.runs import games, records, run, untimed

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
TOGETHER = [sys.executable, "-m", "tests.parallel.together"]
WAYS = {"2 processes": list(RUNS), "4 processes": ["reinforce"], "8 devices": ["reinforce", "random_search"]}
"""How many work together, and which runs they make: each compiles its own programs."""


class Ended(NamedTuple):
    """What the processes of a team left."""

    folder: Path
    codes: list[int]
    stdout: list[str]
    stderr: list[str]


def _together(
    folder: Path,
    processes: int,
    runs: list[str],
    do_to_the_long_run: Callable | None = None,
    *,
    slurm: bool = False,
    **environment: str,
) -> Ended:
    """Runs ``tests.parallel.together`` in so many processes, and does something to them when its last run trains."""
    address = "auto" if slurm else f"127.0.0.1:{free_port()}"
    job = str(free_port())  # of which JAX makes a port
    started = [
        subprocess.Popen(
            [*TOGETHER, str(folder), str(processes), str(process), address, *runs],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # most of their time is compilation
                **(_slurm(job, processes, process) if slurm else {}),
                **environment,
            },
        )
        for process in range(processes)
    ]
    if do_to_the_long_run:
        metrics = folder / "long" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 5):
            assert all(process.poll() is None for process in started), [p.communicate() for p in started]
            time.sleep(0.05)
        do_to_the_long_run(started)
    said = [process.communicate(timeout=200) for process in started]
    return Ended(folder, [process.returncode for process in started], *map(list, zip(*said, strict=True)))


def _slurm(job: str, processes: int, process: int) -> dict[str, str]:
    """What Slurm tells a task on one node."""
    return {
        "SLURM_JOB_ID": job,
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": str(processes),
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for name, flags in RUNS.items():
        assert train(Team.alone(), [*flags, "--run.dir", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Ended:
    """They find each other through Slurm's variables, past a proxy; the last run is ended through one process alone."""
    folder, proxy = tmp_path_factory.mktemp("two"), "http://127.0.0.1:1"
    end = lambda processes: processes[1].terminate()  # noqa: E731
    return _together(folder, 2, list(RUNS), end, slurm=True, http_proxy=proxy, https_proxy=proxy)


@pytest.fixture(scope="module")
def four(tmp_path_factory, two: Ended) -> Ended:
    """Go on with a run of two, and one is killed in the last run."""
    folder = tmp_path_factory.mktemp("four")
    shutil.copytree(two.folder / "reinforce", folder / "copy")
    return _together(folder, 4, WAYS["4 processes"], lambda processes: processes[2].kill())


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> Ended:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    return _together(tmp_path_factory.mktemp("eight"), 1, WAYS["8 devices"], XLA_FLAGS=flags)


@pytest.fixture
def ended(request) -> Ended:
    return request.getfixturevalue({"2": "two", "4": "four", "8": "eight"}[request.param[0]])


def _state(run: Path, iteration: int):
    experiment = build(load_recipe(run / "config.yaml"))
    key = jax.random.key(0)
    checkpoints = Checkpoints(run / "checkpoints")
    try:
        return checkpoints.restore(iteration, jax.eval_shape(lambda: _initial(experiment, key)))[0]
    finally:
        checkpoints.close()
        experiment.fleet.close()


def _initial(experiment, key):
    return experiment.learner.init(key, experiment.policy.init(key))


def _weights(run: Path, iteration: int):
    params = _state(run, iteration).params
    return params.get("policy", params)  # without the inputs' moments


def _flat(tree) -> np.ndarray:
    return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])


def _numbers(row: dict) -> dict:
    return {name: -1 if x is None else x for name, x in row.items()}


@pytest.mark.parametrize(
    ("ended", "name"), [(way, name) for way, names in WAYS.items() for name in names], indirect=["ended"]
)
def test_the_same_games_are_played(ended: Ended, alone: Path, name: str) -> None:
    assert untimed(games(ended.folder / name)) == untimed(games(alone / name))
    ours, theirs = untimed(records(ended.folder / name)), untimed(records(alone / name))
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert _numbers(a) == pytest.approx(_numbers(b), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("ended", "name"), [*((way, "reinforce") for way in WAYS), ("2 processes", "clipped")],
                         indirect=["ended"])  # fmt: skip
def test_the_gradient_is_that_of_one_device(ended: Ended, alone: Path, name: str) -> None:
    """With plain SGD what two neighbouring checkpoints differ by is the gradient, over the learning rate."""
    before, after = (_flat(_weights(alone / name, iteration)) for iteration in (1, 2))
    gradient = np.linalg.norm(after - before)
    assert gradient > 1e-3
    assert np.linalg.norm(_flat(_weights(ended.folder / name, 1)) - before) < 1e-5 * gradient


@pytest.mark.parametrize(
    ("ended", "name"), [*((way, "reinforce") for way in WAYS), ("2 processes", "evolution")], indirect=["ended"]
)
def test_what_was_seen_is_one_statistic(ended: Ended, alone: Path, name: str) -> None:
    last = len(records(alone / name))
    ours, theirs = _state(ended.folder / name, last).statistics, _state(alone / name, last).statistics
    assert ours.number > 1000
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize("ended", WAYS, indirect=True)
def test_mistakes_end_all_processes(ended: Ended) -> None:
    for said in ended.stdout:
        assert "Gloo" not in said
        assert re.search(
            r"^refused: env.num_lanes: \d devices cannot share 63 lanes evenly, [56]\d and 64 can; use another",
            said,
            re.MULTILINE,
        )
        assert re.search(r"^refused: run.dir: .*reinforce holds a run already", said, re.MULTILINE)


@pytest.mark.parametrize("ended", ["2 processes", "8 devices"], indirect=True)
def test_one_device_goes_on_with_the_run_of_many(ended: Ended, alone: Path, tmp_path: Path) -> None:
    for name, folder in (("ours", ended.folder), ("theirs", alone)):
        shutil.copytree(folder / "reinforce", tmp_path / name)
        run("--resume", str(tmp_path / name), "--run.budget-agent-steps", str(6 * PER_ITERATION))
    assert len(records(tmp_path / "ours")) == 6
    assert untimed(games(tmp_path / "ours")) == untimed(games(tmp_path / "theirs"))


def test_four_processes_go_on_with_the_run_of_two(four: Ended, alone: Path, tmp_path: Path) -> None:
    shutil.copytree(alone / "reinforce", tmp_path / "theirs")
    run("--resume", str(tmp_path / "theirs"), "--run.budget-agent-steps", str(6 * PER_ITERATION))
    assert len(records(four.folder / "copy")) == 6
    assert untimed(games(four.folder / "copy")) == untimed(games(tmp_path / "theirs"))


def test_a_signal_to_one_process_saves_and_ends_all(two: Ended) -> None:
    assert two.codes == [143, 143], two.stderr
    rows = records(two.folder / "long")
    assert max(int(path.name) for path in (two.folder / "long" / "checkpoints").iterdir()) == len(rows)


def test_a_killed_process_ends_the_others_with_its_name_and_the_run_goes_on(four: Ended) -> None:
    assert four.codes == [1, 1, -9, 1], four.stderr
    for process in (0, 1, 3):
        last = four.stderr[process].strip().splitlines()[-1]
        assert re.fullmatch(rf"jaxpg: process {process} ends: process 2 \(.*\) is gone; --resume .*", last), last
    folder = four.folder / "long"
    saved = max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    kept = records(folder)[:saved]
    run("--resume", str(folder), "--run.budget-agent-steps", str((saved + 2) * PER_ITERATION))
    rows = records(folder)
    assert rows[:saved] == kept
    assert [row["iteration"] for row in rows] == list(range(1, saved + 3))
    assert rows[-1]["episodes"] == len(games(folder))


ONE_FAILS = """
import sys

import orbax.checkpoint as ocp

from jaxpg.envs.envpool import EnvPool
from jaxpg.train import main

what, process, *argv = sys.argv[1:]
called = 0

def failing(function, error, calls_before):
    def fail(*arguments):
        global called
        called += 1
        if called > calls_before:
            raise error
        return function(*arguments)

    return fail

if process == "1":
    if what == "emulator":
        EnvPool.recv = failing(EnvPool.recv, RuntimeError("ROM on fire"), 100)
    else:
        ocp.StandardCheckpointer.save = failing(ocp.StandardCheckpointer.save, OSError(28, "No space left"), 2)
main([*argv, "--distributed.process-id", process])
"""


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("emulator", "an emulator failed: ROM on fire"),
        ("disk", "iteration 15 cannot be saved: No space left"),
    ],
)
def test_a_fault_of_one_process_ends_all_with_a_sentence_and_the_run_goes_on(tmp_path: Path, what: str, sentence: str):
    folder = tmp_path / "run"
    argv = [
        *("--env.game", "CartPole-v1", "--env.num-lanes", "8", "--env.num-threads", "1"),
        *("--observation.name", "vector", "--policy.hidden", "8"),
        *("--checkpoint.every-iterations", "5", "--reinforce.rollout-agent-steps", "8", "--env.num-pools", "2"),
        *("--run.budget-agent-steps", "1280", "--run.dir", str(folder), "--distributed.num-processes", "2"),
        *("--distributed.coordinator-address", f"127.0.0.1:{free_port()}"),
    ]
    processes = [
        subprocess.Popen([sys.executable, "-c", ONE_FAILS, what, process, *argv], stderr=subprocess.PIPE, text=True)
        for process in ("0", "1")
    ]
    other, faulty = (process.communicate(timeout=100)[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    going_on = "--resume goes on with the newest checkpoint"
    assert re.fullmatch(f"jaxpg: process 1 ends: {sentence}; {going_on}\n", faulty), faulty
    assert re.fullmatch(rf"jaxpg: process 0 ends: process 1 \(.*\) is gone; {going_on}", other.splitlines()[-1]), other
    run("--resume", str(folder))
    assert [row["iteration"] for row in records(folder)] == list(range(1, 21))


COMMON = [
    *("--env.game", "CartPole-v1", "--observation.name", "vector", "--policy.hidden", "8", "--env.num-lanes", "4"),
    *("--run.budget-agent-steps", "64", "--distributed.num-processes", "2"),
]


def _process(number: int, address: str, *argv: str) -> subprocess.Popen:
    where = ["--distributed.coordinator-address", address, "--distributed.process-id", str(number)]
    command = [sys.executable, "-m", "jaxpg.train", *COMMON, *where, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("process", "number", "code"), [(0, signal.SIGTERM, 143), (1, signal.SIGINT, 130), (1, signal.SIGHUP, 129)]
)
def test_who_waits_for_others_says_so_and_can_be_ended(tmp_path: Path, process: int, number: int, code: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    waiting = _process(process, address, "--run.dir", str(tmp_path / "run"))
    said = waiting.stdout.readline()
    assert said.startswith(f"jaxpg: waiting for process {1 - process} ")
    assert address in said
    waiting.send_signal(number)
    _, errors = waiting.communicate(timeout=20)  # and not the 300 seconds of --distributed.start-timeout-seconds
    assert (waiting.returncode, errors) == (code, "jaxpg: interrupted\n")


def test_who_waited_in_vain_says_for_whom(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    argv = ["--run.dir", str(tmp_path / "run"), "--distributed.start-timeout-seconds", "1"]
    waiting = _process(1, address, *argv)
    _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 2
    (sentence,) = errors.splitlines()
    assert sentence.startswith(
        "jaxpg: --distributed.coordinator-address: gave up after 1 s of waiting for process 0 at " + address
    )


@pytest.mark.parametrize("differing", [["--reinforce.discount", "0.5"], ["--run.seed", "2"]])
def test_processes_of_one_run_with_other_settings_are_refused_together(tmp_path: Path, differing: list[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    argv = ["--run.dir", str(tmp_path / "run")]
    started = [_process(0, address, *argv), _process(1, address, *argv, *differing)]
    errors = [process.communicate(timeout=100)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2]
    assert errors[0] == errors[1]
    key = differing[0].removeprefix("--")
    assert re.fullmatch(rf"jaxpg: {key} is \S+ in process 0 and {differing[1]} in process 1; .*\n", errors[0]), errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"coordinator_address": "127.0.0.1:1"}, "go together"),
        ({"num_processes": 2, "process_id": 1}, "go together"),
        ({"coordinator_address": "here", "num_processes": 2, "process_id": 1}, "'here' is not HOST:PORT"),
        ({"coordinator_address": "a:99999", "num_processes": 2, "process_id": 1}, "'a:99999' is not HOST:PORT"),
        ({"coordinator_address": "a:1", "num_processes": -1, "process_id": 1}, "-1 is less than 1"),
        ({"coordinator_address": "a:1", "num_processes": 2, "process_id": 2}, "2 is not one of 0 to 1"),
        ({"auto": True, "process_id": 0}, "leave the other flags out"),
        ({"timeout_seconds": 0.0}, "0 is not between 5 and 3600"),
        ({"timeout_seconds": float("nan")}, "nan is not between 5 and 3600"),
        ({"start_timeout_seconds": 0.5}, "0.5 is less than 1"),
        ({"devices": -1}, "-1 is less than 0"),
    ],
)
def test_flags_that_make_no_sense_are_named(flags: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=f"^--distributed.*{re.escape(sentence)}"):
        check_distributed(DistributedConfig(**flags))


def test_more_devices_than_there_are_is_an_error(tmp_path: Path, capsys) -> None:
    run("--distributed.devices", "99", "--run.dir", str(tmp_path / "run"), code=2)
    assert "--distributed.devices: 99 are asked for, but there are" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
