"""The processor cores that this process may use, and their division among child processes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def own_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def core_shares(cores: Sequence[int], processes: int) -> list[list[int]]:
    """Divides cores into contiguous shares, one per process, which differ by at most one core.

    If there are fewer cores than processes, every process gets all cores.

    >>> core_shares([0, 1, 2, 3, 8], 2)
    [[0, 1], [2, 3, 8]]
    >>> core_shares([0, 1], 3)
    [[0, 1], [0, 1], [0, 1]]
    """
    if len(cores) < processes:
        return [list(cores)] * processes
    edges = [len(cores) * index // processes for index in range(processes + 1)]
    return [list(cores[edges[index] : edges[index + 1]]) for index in range(processes)]


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Restricts this process to some cores, so that a child that starts meanwhile is restricted from the beginning."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
