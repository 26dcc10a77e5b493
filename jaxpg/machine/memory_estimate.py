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

from jaxpg.core.errors import UserError
from jaxpg.machine.limits import usable_memory

GAME_BYTES = 64
"""Of one waiting game in ``kernel.players.CandidateQueue``: its entry, and what making the list takes."""


class Part(NamedTuple):
    """One thing that takes memory."""

    key: str
    """The setting that makes it large."""
    what: str
    num_bytes: int


def queued_episodes(key: str, num_games: int) -> Part:
    """Games that wait to be played."""
    return Part(key, f"a queue of {num_games} games", num_games * GAME_BYTES)


def candidates(num_lanes: int, weight_bytes: int) -> Part:
    """The weights of those who play at a time, one candidate a lane."""
    return Part("env.num_lanes", f"the weights of {num_lanes} candidates", num_lanes * weight_bytes)


def num_bytes(tree: Any) -> int:
    """Of the arrays in a pytree of shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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
