"""Where emulator threads run."""

import os

FLOATING = -1


def affinity_offset(num_threads: int, num_lanes: int) -> int:
    """The first core that emulator threads are bound to, one to a core; ``FLOATING`` where they stay unbound.

    Linux often wakes two threads on one core and moves one away milliseconds later, about as long as an agent step of
    all lanes takes; bound threads save a tenth of the time (docs/performance.md). They are bound only where there is
    one for each core and the process may use every core, so that no run is driven onto the cores of another.

    Args:
      num_threads: as in ``EnvConfig``; 0 for one a core.
      num_lanes: of this pool; more threads than lanes are never started.
    """
    cores = os.cpu_count() or 1
    if num_threads not in (0, cores) or num_lanes < cores or not hasattr(os, "sched_getaffinity"):
        return FLOATING
    return 0 if len(os.sched_getaffinity(0)) == cores else FLOATING
