"""Ends a run whose emulators no longer answer, so that the process does not hang for ever."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxpg.kernel.fleet import Fleet
from jaxpg.machine.console import say

SECONDS_BETWEEN_LOOKS = 0.5


@contextmanager
def watched(fleet: Fleet, timeout_seconds: float, save: Callable[[], bool]) -> Iterator[None]:
    """Ends the process with exit code 1 when the emulators of ``fleet`` answer too late.

    The thread that waits for the emulators is inside C++ code and cannot be interrupted. Therefore a second thread
    watches. It saves the run as the newest iteration left it, and ends the process.

    Args:
      fleet: the emulators to watch.
      timeout_seconds: how long an answer may take. One second for each lane is added, because the first answer
        includes the start of the emulators.
      save: saves the run; returns False where it cannot.
    """
    ended = threading.Event()
    limit = timeout_seconds + fleet.num_lanes

    def look() -> None:
        looks, seen = 0, None
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            since = fleet.waiting_since
            looks = looks + 1 if since is not None and since == seen else 0
            seen = since
            if looks * SECONDS_BETWEEN_LOOKS > limit:  # counts looks, because a clock runs on in a suspended process
                say(f"jaxpg: the emulators have not answered for {limit:.0f} seconds", error=True)
                if save():
                    say("jaxpg: the run is saved; --resume goes on with it", error=True)
                os._exit(1)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
