"""Emulator threads have a core each, where that takes nothing from others."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.threads import FLOATING, affinity_offset

CORES = os.cpu_count() or 1


@pytest.mark.parametrize("backend", ["envpool", "ale"])
def test_threads_are_bound_to_a_core_each_once_there_is_a_lane_for_each(backend: str) -> None:
    def cores_of_new_threads(num_lanes: int) -> list[set[int]]:
        before = {task.name for task in Path("/proc/self/task").iterdir()}
        env = make_env(
            EnvConfig(game="Pong", backend=backend), EmulatorNeeds(kind="pixels", height=84, width=84), num_lanes
        )
        env.reset(np.arange(num_lanes))
        env.recv()
        new = [task.name for task in Path("/proc/self/task").iterdir() if task.name not in before]
        cores = [os.sched_getaffinity(int(task)) for task in new]
        env.close()
        return cores

    if len(os.sched_getaffinity(0)) < CORES:  # as in a container with some of the machine's cores
        assert all(cores == os.sched_getaffinity(0) for cores in cores_of_new_threads(CORES))
        return
    bound = [cores for cores in cores_of_new_threads(CORES) if len(cores) == 1]
    assert sorted(bound, key=min) == [{core} for core in sorted(os.sched_getaffinity(0))]
    if CORES > 1:
        assert all(len(cores) == CORES for cores in cores_of_new_threads(CORES - 1))


def test_nothing_is_bound_where_another_process_could_be_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert affinity_offset(0, 8) == affinity_offset(4, 4) == 0
    assert affinity_offset(3, 8) == affinity_offset(8, 8) == FLOATING, "not one thread a core"
    assert affinity_offset(0, 3) == FLOATING, "fewer lanes than cores"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3})
    assert affinity_offset(0, 8) == FLOATING, "the process was given some of the cores only"
    monkeypatch.delattr(os, "sched_getaffinity")
    assert affinity_offset(0, 8) == FLOATING, "a system that does not bind"
