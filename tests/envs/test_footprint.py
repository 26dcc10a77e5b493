"""More threads than a machine can start are refused by name."""

import pytest

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs import footprint
from jaxpg.envs.config import EnvConfig


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            EnvConfig(num_lanes=1024, num_pools=1024, num_threads=2),  # a lane each, and a thread
            None,
        ),
        (EnvConfig(num_lanes=65_536, num_pools=1024, num_threads=1024), r"1024 pools of 64 threads are more than"),
        (EnvConfig(num_lanes=4096, num_pools=8, num_threads=1024), r"8 pools of 512 threads are more than"),
    ],
)
def test_threads_of_all_pools_are_bounded(env, sentence, monkeypatch):
    monkeypatch.setattr(footprint.os, "cpu_count", lambda: 2)
    if sentence is None:
        footprint.check_threads(env, env.num_pools, env.num_lanes // env.num_pools)
        return
    with pytest.raises(UserError, match=rf"^env\.num_pools: {sentence} 1024 threads; "):
        footprint.check_threads(env, env.num_pools, env.num_lanes // env.num_pools)


def test_a_thread_for_each_core_is_never_too_many(monkeypatch):
    monkeypatch.setattr(footprint.os, "cpu_count", lambda: 256)
    footprint.check_threads(EnvConfig(num_lanes=65_536), 8, 8_192)


def test_processes_of_lanes_need_memory():
    assert footprint.workers(EnvConfig(backend="gymnasium")) == []
    (part,) = footprint.workers(EnvConfig(backend="gymnasium", workers=3))
    assert (part.key, part.num_bytes) == ("env.workers", 3 * footprint.WORKER_BYTES)


@pytest.mark.parametrize(
    ("game", "kind", "num_bytes"),
    [
        ("CartPole-v1", "vector", 8_000),
        ("LunarLander-v3", "vector", 110_000),
        ("CoinrunEasy-v0", "picture", 1_000_000),
        ("gfootball/academy_corner-v1", "picture", 64_000_000),
    ],
)
def test_a_lane_takes_what_was_measured(game, kind, num_bytes):
    assert footprint.emulators(EnvConfig(game=game, num_lanes=3), EmulatorNeeds(kind=kind)).num_bytes == 3 * num_bytes
