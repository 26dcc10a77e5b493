"""How child processes divide the GPUs of a machine, which files in a folder stand for."""

import os
from pathlib import Path

import pytest

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.evaluate import EvaluateArguments, _evaluate
from jaxpg.machine import gpus
from jaxpg.machine.gpus import FRACTION, PREALLOCATES, USERS_CHOICE, VISIBLE, own_gpus, shares_of_gpus
from jaxpg.record import RecordArguments, _record

FILES = ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine without accelerators, on which JAX knows CUDA and TPUs; makes files of devices."""
    for plugin in ("jax_plugins/xla_cuda13", "libtpu"):
        (tmp_path / "installed" / plugin).mkdir(parents=True)
        (tmp_path / "installed" / plugin / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "installed")
    for name in (*USERS_CHOICE, VISIBLE, "JAX_PLATFORMS"):
        monkeypatch.setenv(name, "")  # so that it is gone afterwards, whoever sets it
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpus, "DEVICE_FILES", tmp_path)

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()

    return make


def test_the_gpus_are_those_that_jax_would_see(machine, monkeypatch) -> None:
    assert own_gpus() == []
    machine(*FILES)
    assert own_gpus() == ["0", "1", "10"]
    for visible, seen in (("", []), ("-1", []), ("2, GPU-af,-1,3", ["2", "GPU-af"])):
        monkeypatch.setenv(VISIBLE, visible)
        assert own_gpus() == seen
    monkeypatch.delenv(VISIBLE)
    for platforms, number in (("cpu", 0), ("cpu,cuda", 0), ("CUDA,cpu", 3), ("gpu", 3), ("tpu", 0)):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert len(own_gpus()) == number


def test_without_jaxs_plugin_gpus_do_not_count(machine, monkeypatch, tmp_path: Path) -> None:
    machine(*FILES)
    (tmp_path / "installed" / "jax_plugins" / "xla_cuda13").rename(tmp_path / "installed" / "jax_plugins" / "other")
    assert own_gpus() == []
    assert shares_of_gpus("parallel", 2) == [{}, {}]


@pytest.mark.parametrize(
    ("visible", "processes", "shares"),
    [
        ("0,1,2,3", 1, [""]),
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("4,5,6", 2, ["4", "5"]),  # the same number for each, as processes of one run need
        ("7", 1, [""]),
        ("", 3, ["", "", ""]),
    ],
)
def test_each_process_has_gpus_of_its_own(machine, monkeypatch, visible, processes, shares) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    expected = [{VISIBLE: share} if share else {} for share in shares]
    for of_one_run in (False, True):
        assert shares_of_gpus("parallel", processes, of_one_run=of_one_run) == expected


def test_runs_that_share_a_gpu_divide_its_memory(machine, monkeypatch) -> None:
    machine("nvidia0", "nvidia1")
    assert shares_of_gpus("parallel", 5) == [{VISIBLE: gpu, FRACTION: "0.2500"} for gpu in "01010"]
    for name in USERS_CHOICE:
        monkeypatch.setenv(name, "0.1")
        assert shares_of_gpus("parallel", 3) == [{VISIBLE: gpu} for gpu in "010"]
        monkeypatch.delenv(name)


def test_processes_of_one_run_do_not_share_a_gpu(machine, monkeypatch) -> None:
    machine("nvidia0", "nvidia1")
    with pytest.raises(
        UserError,
        match="^--processes: each process of a run needs a GPU of its own, and there are 2 for 3 processes; use at "
        "most 2, or JAX_PLATFORMS=cpu$",
    ):
        shares_of_gpus("--processes", 3, of_one_run=True)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert shares_of_gpus("--processes", 3, of_one_run=True) == [{}, {}, {}]


@pytest.mark.parametrize("chip", ["accel0", "vfio/0"])
def test_a_tpu_is_for_one_process(machine, monkeypatch, chip: str) -> None:
    assert shares_of_gpus("parallel", 2) == [{}, {}]
    machine(chip)
    assert shares_of_gpus("parallel", 1) == [{}]
    with pytest.raises(UserError, match="^parallel: JAX gives a TPU to a single process, not to 2; use 1, or "):
        shares_of_gpus("parallel", 2)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert shares_of_gpus("parallel", 2) == [{}, {}]


@pytest.mark.parametrize(
    "play",
    [lambda: _evaluate(EvaluateArguments(), Config()), lambda: _record(RecordArguments(), Config())],
    ids=["evaluate", "record"],
)
def test_who_plays_beside_a_training_takes_memory_as_needed(machine, monkeypatch, play) -> None:
    def build(*arguments):
        raise UserError("built")

    for module in ("evaluate", "record"):
        monkeypatch.setattr(f"jaxpg.{module}.build", build)
    with pytest.raises(UserError, match="^built$"):
        play()
    assert os.environ[PREALLOCATES] == "false"
    monkeypatch.delenv(PREALLOCATES)
    monkeypatch.setenv(FRACTION, "0.2")  # the user's own choice
    with pytest.raises(UserError, match="^built$"):
        play()
    assert PREALLOCATES not in os.environ
