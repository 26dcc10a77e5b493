"""Memory and threads that the emulators take."""

import os

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs.config import EnvConfig
from jaxpg.machine.memory_estimate import Part

MAX_THREADS = 1024
"""Most emulator threads of a process."""

ATARI_LANE_BYTES = 1_000_000
"""Bytes of one Atari emulator (measured: 0.7 to 1.6 MB)."""

VECTOR_LANE_BYTES = 8_000
"""Bytes of one lane of classic control or of a probe (measured on EnvPool)."""

WORKER_BYTES = 60_000_000
"""Bytes of one process that plays Gymnasium lanes, without what its environments take (measured)."""
LARGER_LANES = {"gfootball/": 64_000_000, "LunarLander": 110_000}
"""Bytes of one lane of games that take more, by the beginning of their names (measured on EnvPool)."""


def emulators(env: EnvConfig, needs: EmulatorNeeds, lane_bytes: int = 0) -> Part:
    """Memory estimate of the emulators. Each emulator holds its current and its previous observation.

    Args:
      env: the settings of the emulators.
      needs: what the observation asks for.
      lane_bytes: bytes of one lane of an environment in JAX, whose program holds a lane before and after a step; 0 for
        an emulator on the host.
    """
    if lane_bytes:
        what = f"{env.num_lanes} lanes of {env.game}"
        return Part("env.num_lanes", what, 2 * env.num_lanes * lane_bytes, on_device=True)
    frame = needs.height * needs.width * needs.stack * (3 if needs.color == "rgb" else 1)
    lane = VECTOR_LANE_BYTES if needs.kind == "vector" else ATARI_LANE_BYTES + 2 * frame
    lane = max([lane, *(size for beginning, size in LARGER_LANES.items() if env.game.startswith(beginning))])
    return Part("env.num_lanes", f"{env.num_lanes} emulators", env.num_lanes * lane)


def workers(env: EnvConfig) -> list[Part]:
    """Memory estimate of the processes that share the lanes; empty if there are none."""
    return [Part("env.workers", f"{env.workers} processes", env.workers * WORKER_BYTES)] if env.workers else []


def too_many_threads(env: EnvConfig, num_pools: int, lanes_per_pool: int) -> str:
    """Sentence about the threads of all pools if they are more than a machine can use; otherwise empty."""
    cores = os.cpu_count() or 1
    threads_per_pool = min(env.num_threads or cores, lanes_per_pool)
    max_threads = max(MAX_THREADS, 8 * cores)  # by default, eight pools have one thread per core each
    what = f"{num_pools} pools of {threads_per_pool} threads are more than {max_threads} threads"
    return what if num_pools * threads_per_pool > max_threads else ""


def check_threads(env: EnvConfig, num_pools: int, lanes_per_pool: int) -> None:
    """Raises UserError if the pools would start more threads than a machine can use."""
    if what := too_many_threads(env, num_pools, lanes_per_pool):
        raise UserError(f"env.num_pools: {what}; use fewer pools, or set env.num_threads lower")
