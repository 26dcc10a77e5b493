"""Shows the progress of long work, or says what the program is waiting for."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxpg.machine.console import Forgiving, say

SECONDS_BETWEEN_LINES = 10.0
SECONDS_UNTIL_SAID = 2.0
"""Longest wait before the user is told what the program is waiting for."""


@contextmanager
def count_up(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows how far some work is. Yields a function to call with the number of things done since
    its last call.

    On a terminal the progress is a bar. Otherwise it is a line ``what=done of=total left_seconds=...``, at most one
    every ten seconds.

    Args:
      what: the things that are counted.
      total: how many things there are, or None if the number is unknown.
    """
    began = said_at = time.monotonic()
    done = 0
    if Forgiving(sys.stdout).isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=terminal(), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return

    def add(count: int) -> None:
        nonlocal done, said_at
        done += count
        if time.monotonic() - said_at >= SECONDS_BETWEEN_LINES:
            said_at = time.monotonic()
            left_seconds = (said_at - began) * ((total or 0) - done) / max(done, 1)
            say(f"{what}={done}" + ("" if total is None else f" of={total} left_seconds={left_seconds:.0f}"))

    yield add


@contextmanager
def said_while_waiting(what: str) -> Iterator[None]:
    """Says ``what`` if the block takes more than two seconds, then every ten seconds how long the block has taken."""
    ended = threading.Event()
    began = time.monotonic()

    def speak() -> None:
        seconds = SECONDS_UNTIL_SAID
        while not ended.wait(seconds):
            say(f"jaxpg: {what}" + (f", for {time.monotonic() - began:.0f} s" if seconds > SECONDS_UNTIL_SAID else ""))
            seconds = SECONDS_BETWEEN_LINES

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def terminal() -> Console:
    """Rich's console on stdout. It survives a terminal that closes while something is drawn."""
    return Console(file=Forgiving(sys.stdout))  # type: ignore[arg-type]  # Forgiving has the methods that Rich calls
