"""The memory and cores that this process may use. A container's limits (Linux control groups) can lower both."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's memory, or the container's limit if that is lower."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # control groups of version 2 and of version 1
            limits += [int(word) for word in _words(folder / name) if word.isdecimal()]
    return min(limits)


def usable_cores() -> int:
    """Number of cores: the machine's cores, or the container's share of processor time if that is less (rounded up)."""
    limits = [float(os.cpu_count() or 1)]
    for folder in _groups("cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):  # "max" and -1 mean no limit
            limits.append(int(words[0]) / int(words[1]))
    return math.ceil(min(limits))


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups and of the groups above them. In a container a folder may not exist."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CONTROL_GROUPS / controller if controllers else CONTROL_GROUPS
        own = root / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder == root or root in folder.parents)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
