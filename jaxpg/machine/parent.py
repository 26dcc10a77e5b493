"""A process that ends when the one that started it does, also where that one was killed."""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, prctl: Callable[[int, int], int] | None = None) -> None:
    """Asks Linux for a SIGTERM to this process when its parent ends; ends it where the parent has ended already."""
    (prctl or find_prctl())(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def find_prctl() -> Callable[[int, int], int]:
    """Of the C library, found before a fork; without Linux it asks for nothing."""
    return getattr(ctypes.CDLL(None), "prctl", lambda option, number: -1)
