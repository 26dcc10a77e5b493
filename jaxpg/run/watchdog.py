"""Emulators that do not answer any more end the run with a sentence, instead of a process that stands still."""

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

    The thread that waits for them stands in C++ code and cannot be interrupted, so that another one saves the run as
    the newest iteration left it, and ends the process.

    Args:
      fleet: whose emulators are waited for.
      timeout_seconds: besides a second for each lane, because the first answer holds the emulators' start.
      save: saves the run; False where it cannot.
    """
    ended = threading.Event()
    limit = timeout_seconds + fleet.num_lanes

    def look() -> None:
        looks, seen = 0, None
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            since = fleet.waiting_since
            looks = looks + 1 if since is not None and since == seen else 0
            seen = since
            if looks * SECONDS_BETWEEN_LOOKS > limit:  # looks, not a clock: nobody looks while the process is stopped
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
