"""Estimates how much memory a run needs, before the run allocates anything large.

The estimates count only the large arrays, so they are rather too low. They refuse a run that cannot work, such as one
with three zeros too many in a setting. A run that might fit is left to the user.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxpg.core.errors import UserError
from jaxpg.machine.limits import usable_memory

GAME_BYTES = 64
"""Bytes of one waiting episode in ``kernel.players.CandidateQueue``: its entry, and the work of making the list."""


class Part(NamedTuple):
    """One part of the memory estimate."""

    key: str
    """The setting that makes this part large."""
    what: str
    num_bytes: int


def queued_episodes(key: str, num_games: int) -> Part:
    """Memory of the episodes that wait in a queue."""
    return Part(key, f"a queue of {num_games} games", num_games * GAME_BYTES)


def candidates(num_lanes: int, weight_bytes: int) -> Part:
    """Memory of the weights of the candidates that play at the same time, one candidate per lane."""
    return Part("env.num_lanes", f"the weights of {num_lanes} candidates", num_lanes * weight_bytes)


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays in a pytree of shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_memory(parts: Iterable[Part]) -> None:
    """Checks that the parts fit into the memory that this process may use.

    Raises:
      UserError: the parts do not fit. The sentence names the setting of the largest part.
    """
    parts = list(parts)
    total, memory = sum(part.num_bytes for part in parts), usable_memory()
    if total + _in_use() > memory:
        heaviest = max(parts, key=lambda part: part.num_bytes)
        raise UserError(
            f"{heaviest.key}: the run needs about {_text(total)} of memory, of which {_text(heaviest.num_bytes)} for "
            f"{heaviest.what}, but this machine or container has {_text(memory)}; use less"
        )


def _in_use() -> int:
    """Bytes of memory that this process uses now. The libraries alone take some hundred megabytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _text(size: float) -> str:
    """A number of bytes as people write it.

    >>> _text(1_234_567_890)
    '1.2 GB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 else f"{size:.2g} {unit}"
        size /= 1000
    return f"{size:.3g} EB"
