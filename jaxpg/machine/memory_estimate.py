"""What a run will hold in memory, estimated before anything large is made.

The estimates count the large arrays alone and are rather too low: they refuse what cannot work, such as a slip of
three zeros, and leave what may be tight to whoever asks for it.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxpg.envs.config import EnvConfig
from jaxpg.errors import UserError
from jaxpg.machine.limits import usable_memory
from jaxpg.types import EmulatorNeeds

MAX_THREADS = 1024
"""Emulator threads that a process may ask for."""

ATARI_LANE_BYTES = 1_000_000
"""Of one emulator (measured: 0.7 to 1.6 MB)."""

VECTOR_LANE_BYTES = 8_000
"""Of one lane of classic control or of a probe (measured on EnvPool)."""

GAME_BYTES = 64
"""Of one waiting game in ``candidates.CandidateQueue``: its entry, and what making the list takes."""


class Part(NamedTuple):
    """One thing that takes memory."""

    key: str
    """The setting that makes it large."""
    what: str
    num_bytes: int


def emulators(env: EnvConfig, needs: EmulatorNeeds) -> Part:
    """The emulators, each with the frames that it gives and the one before."""
    frame = needs.height * needs.width * needs.stack * (3 if needs.color == "rgb" else 1)
    lane = VECTOR_LANE_BYTES if needs.kind == "vector" else ATARI_LANE_BYTES + 2 * frame
    return Part("env.num_lanes", f"{env.num_lanes} emulators", env.num_lanes * lane)


def games(key: str, num_games: int) -> Part:
    """Games that wait to be played."""
    return Part(key, f"a queue of {num_games} games", num_games * GAME_BYTES)


def num_bytes(tree: Any) -> int:
    """Of the arrays in a pytree of shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def too_many_threads(env: EnvConfig, num_pools: int, lanes_per_pool: int) -> str:
    """What the pools would start, in words, where it is more threads than a machine can use; else nothing."""
    cores = os.cpu_count() or 1
    a_pool = min(env.num_threads or cores, lanes_per_pool)
    most = max(MAX_THREADS, 8 * cores)  # eight pools of a thread a core are a default
    return f"{num_pools} pools of {a_pool} threads are more than {most} threads" if num_pools * a_pool > most else ""


def check_threads(env: EnvConfig, num_pools: int, lanes_per_pool: int) -> None:
    """Raises UserError where the pools would start more threads than a machine can use."""
    if what := too_many_threads(env, num_pools, lanes_per_pool):
        raise UserError(f"env.num_pools: {what}; use fewer pools, or set env.num_threads lower")


def check_memory(parts: Iterable[Part]) -> None:
    """Raises UserError, which names the setting that weighs most, where the parts exceed what memory there is."""
    parts = list(parts)
    total, memory = sum(part.num_bytes for part in parts), usable_memory()
    if total + _in_use() > memory:
        heaviest = max(parts, key=lambda part: part.num_bytes)
        raise UserError(
            f"{heaviest.key}: the run needs about {_text(total)} of memory, of which {_text(heaviest.num_bytes)} for "
            f"{heaviest.what}, but this machine or container has {_text(memory)}; use less"
        )


def _in_use() -> int:
    """Bytes of memory that this process has already, for the libraries alone some hundred megabytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _text(size: float) -> str:
    """A number of bytes for people.

    >>> _text(1_234_567_890)
    '1.2 GB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 else f"{size:.2g} {unit}"
        size /= 1000
    return f"{size:.3g} EB"
