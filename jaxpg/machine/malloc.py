"""Makes the C library keep freed memory for this process."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # from glibc's malloc.h


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed memory instead of returning it to the system. Does nothing with other C libraries.

    XLA on CPU frees its buffers after each call. By default glibc returns tens of megabytes to the system, and the
    process fetches them again page by page. Depending on the layout of the heap, this costs nothing, or up to a third
    of the time of a convolutional network (docs/performance.md). There is only one arena, because glibc returns the
    memory of thread arenas whatever the settings say.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_TRIM_THRESHOLD, -1)
    mallopt(M_MMAP_MAX, 0)
