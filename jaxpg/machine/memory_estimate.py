"""Estimates how much memory a run needs, before the run allocates anything large.

The estimates count only the large arrays, so they are rather too low. They refuse a run that cannot work, such as one
with three zeros too many in a setting. A run that might fit is left to the user.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

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
    on_device: bool = False
    """Whether an accelerator, where there is one, holds this part instead of the host."""


def queued_episodes(key: str, num_games: int) -> Part:
    """Memory of the episodes that wait in a queue."""
    return Part(key, f"a queue of {num_games} games", num_games * GAME_BYTES)


def candidates(num_lanes: int, weight_bytes: int) -> Part:
    """Memory of the weights of the candidates that play at the same time, one candidate per lane."""
    return Part("env.num_lanes", f"the weights of {num_lanes} candidates", num_lanes * weight_bytes, on_device=True)


def num_bytes(tree: Any) -> int:
    """Bytes of all arrays in a pytree of shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def outputs_of_products(traced: ClosedJaxpr) -> list[Any]:
    """Shapes of what the products and convolutions of a traced function give, which its gradient has to keep."""
    products = [one for one in equations(traced.jaxpr) if one.primitive.name in ("dot_general", "conv_general_dilated")]
    return [variable.aval for one in products for variable in one.outvars]


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Yields the equations of a traced function and of those that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    yield from equations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def check_memory(parts: Iterable[Part], of_device: Iterable[Part] = (), device: jax.Device | None = None) -> None:
    """Checks that the parts fit into the memory that this process may use, and on its accelerator.

    Args:
      parts: the parts of this process.
      of_device: the parts of one device.
      device: one of the devices, which are alike. On CPU, and where a device does not say how much memory it has, the
        host holds everything.

    Raises:
      UserError: the parts do not fit. The sentence names the setting of the largest part.
    """
    device_memory = _device_memory(device) if device else None
    parts = [part for part in parts if device_memory is None or not part.on_device]
    _check(parts, usable_memory(), _in_use(), "memory", "but this machine or container has")
    if device and device_memory:
        of_device = [part for part in of_device if part.on_device]
        _check(
            of_device, *device_memory, "memory on a device", f"but {device} ({device.device_kind}) gives this process"
        )


def _check(parts: Sequence[Part], memory: int, in_use: int, what: str, but_there_is: str) -> None:
    total = sum(part.num_bytes for part in parts)
    if not total or total + in_use <= memory:
        return
    heaviest = max(parts, key=lambda part: part.num_bytes)
    used = f", of which {_text(in_use)} are in use already" if total <= memory else ""  # it would fit otherwise
    fitting = 100 * (memory - in_use - (total - heaviest.num_bytes)) // heaviest.num_bytes
    raise UserError(
        f"{heaviest.key}: the run needs about {_text(total)} of {what}, of which {_text(heaviest.num_bytes)} for "
        f"{heaviest.what}, {but_there_is} {_text(memory)}{used}; use less"
        + (f", about {fitting} % of that fits" if fitting > 0 else "")
    )


def _device_memory(device: jax.Device) -> tuple[int, int] | None:
    """Bytes of a device's memory that this process may use, and bytes in use. None where the device does not say."""
    try:
        said = device.memory_stats() or {}
    except jax.errors.JaxRuntimeError:  # a stand-in for a device elsewhere, such as Pathways', has no answer
        return None
    return (said["bytes_limit"], said.get("bytes_in_use", 0)) if said.get("bytes_limit") else None


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
