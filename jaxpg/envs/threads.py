"""Binds emulator threads to cores."""

import os

FLOATING = -1


def affinity_offset(num_threads: int, num_lanes: int) -> int:
    """The first core of the emulator threads, which are bound one to a core. ``FLOATING`` leaves them unbound.

    Linux often wakes two threads on the same core and moves one of them only milliseconds later. An agent step of all
    lanes takes about as long, so bound threads save a tenth of the time (docs/performance.md). Threads are bound only
    if there is one thread for each core and the process may use every core. Otherwise two runs could be bound to the
    same cores.

    Args:
      num_threads: the setting in ``EnvConfig``; 0 means one thread per core.
      num_lanes: number of lanes of this pool. A pool never starts more threads than lanes.
    """
    cores = os.cpu_count() or 1
    if num_threads not in (0, cores) or num_lanes < cores or not hasattr(os, "sched_getaffinity"):
        return FLOATING
    return 0 if len(os.sched_getaffinity(0)) == cores else FLOATING
