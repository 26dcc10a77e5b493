"""Ends a child process when its parent ends, even if the parent was killed."""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def end_with_parent(
    parent: int, number: int = signal.SIGTERM, *, prctl: Callable[[int, int], int] | None = None
) -> None:
    """Asks Linux to send a signal to this process when its parent ends.

    If the parent has ended already, this process ends at once.

    Args:
      parent: the parent's process id.
      number: the signal.
      prctl: the C function, if it was found before a fork. None looks it up now.
    """
    (prctl or find_prctl())(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def find_prctl() -> Callable[[int, int], int]:
    """The C library's ``prctl``, to be found before a fork. On systems other than Linux it does nothing."""
    return getattr(ctypes.CDLL(None), "prctl", lambda option, number: -1)
