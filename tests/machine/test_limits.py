"""The limits of a container are seen, wherever the system writes them down."""

import os
from pathlib import Path

import pytest

from jaxpg import experiment
from jaxpg.config import Config
from jaxpg.envs.config import EnvConfig
from jaxpg.machine import limits as machine
from jaxpg.policies.observations import ObservationConfig

GB = 10**9
V2 = "0::/user.slice/job\n"
V1 = "9:name=systemd:/\n4:memory:/docker/1f\n2:cpuacct:/\n1:cpu,cpuset:/docker/1f\n0::/\n"
UNLIMITED = str(2**63 - 4096)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a file of limits in place of the system's."""
    monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def write(own: str, **files: str) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("--", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/\n", {"memory--max": str(GB), "cpu--max": "150000 100000"}),  # within the container
        (V2, {"memory--max": "max", "user.slice__memory--max": str(GB), "user.slice__job__memory--max": "max"}),
        (V2, {"user.slice__job__memory--max": str(GB), "user.slice__memory--max": str(2 * GB)}),
        (V1, {"memory__docker__1f__memory--limit_in_bytes": str(GB), "memory__memory--limit_in_bytes": UNLIMITED}),
        (V1, {"memory__memory--limit_in_bytes": str(GB)}),  # the path is the host's, the files are the container's
    ],
)
def test_the_lowest_limit_of_memory_counts(own, files, groups) -> None:
    groups(own, **files)
    assert machine.usable_memory() == GB


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu--max": "150000 100000"}, 2),
        (V2, {"user.slice__job__cpu--max": "max 100000", "user.slice__cpu--max": "400000 100000"}, 4),
        (V1, {"cpu__docker__1f__cpu--cfs_quota_us": "50000", "cpu__docker__1f__cpu--cfs_period_us": "100000"}, 1),
        (V1, {"cpu__cpu--cfs_quota_us": "-1", "cpu__cpu--cfs_period_us": "100000"}, 64),
        (V2, {"cpu--max": "nonsense"}, 64),
    ],
)
def test_the_lowest_share_of_processor_time_counts(own, files, cores, groups) -> None:
    groups(own, **files)
    assert machine.usable_cores() == cores


def test_without_limits_the_machine_counts(groups, tmp_path: Path) -> None:
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) * 1024
    assert (machine.usable_memory(), machine.usable_cores()) == (total, 64)
    groups(V1, **{"memory__memory--limit_in_bytes": UNLIMITED})
    assert machine.usable_memory() == total


def test_emulators_have_a_thread_for_each_core_that_a_container_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    make_env = experiment.make_env

    def make(env, needs, num_lanes):
        asked.append(env.num_threads)
        return make_env(env, needs, num_lanes)

    monkeypatch.setattr(experiment, "make_env", make)
    monkeypatch.setattr(experiment, "usable_cores", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for given in (0, 2):
        env = EnvConfig(backend="probe", game="Count", num_lanes=4, num_threads=given)
        experiment.build(Config(observation=ObservationConfig(name="vector"), env=env)).rollout.close()
    assert asked == [1, 3, 1, 2], "each time one emulator first, to ask it for its shapes"
