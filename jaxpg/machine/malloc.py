"""How the process keeps the memory that it has freed."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Tells glibc to use freed memory again instead of giving it back to the system; elsewhere nothing happens.

    XLA on CPU frees its buffers after each call. Tens of megabytes would be given back and, page by page, fetched
    again, in some processes for a third of the time of a convolutional network and in others never, as their heap
    happens to lie (docs/performance.md). One arena, because those of threads are given back whatever is asked for.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_TRIM_THRESHOLD, -1)
    mallopt(M_MMAP_MAX, 0)
