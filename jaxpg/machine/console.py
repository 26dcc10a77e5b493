"""What jaxpg says: records of the logger ``jaxpg``, which commands write to stdout and stderr, and libraries may hear.

This is the only place that writes to stdout and stderr. A reader that is gone costs the words and nothing else.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

LOGGER = logging.getLogger("jaxpg")
LOGGER.addHandler(logging.NullHandler())  # as a library nothing is written unless the program asks for it

LOST = (OSError, ValueError, RuntimeError)
"""What a write raises: nobody reads or the disk is full; the stream is closed; a signal came within another write."""


def say(sentence: str, *, error: bool = False) -> None:
    """Logs one line, as a warning where ``error``; never raises."""
    LOGGER.log(logging.WARNING if error else logging.INFO, "%s", sentence)


def speak() -> None:
    """From now on, what is said is written at once: warnings to stderr, all else to stdout; and written once, however
    often this is called.
    """
    if not any(isinstance(handler, _Speaker) for handler in LOGGER.handlers):
        LOGGER.addHandler(_Speaker())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # the handlers of a library that logs as well would write each line again


@contextmanager
def speaking() -> Iterator[None]:
    """Within a command, what is said is written."""
    handlers, level, propagates = list(LOGGER.handlers), LOGGER.level, LOGGER.propagate
    speak()
    try:
        yield
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
        LOGGER.propagate = propagates


class _Speaker(logging.Handler):
    """Writes without a lock, because a thread that ends the process must not wait for the one that it ends."""

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        stream = Forgiving(sys.stderr if record.levelno >= logging.WARNING else sys.stdout)
        stream.write(record.getMessage() + "\n")
        stream.flush()


def flush() -> None:
    """Writes what libraries left in the buffers, such as the help, so that Python's own end does not fail at it."""
    for stream in (sys.stdout, sys.stderr):
        Forgiving(stream).flush()


def open_missing() -> None:
    """Opens the standard streams that the process was started without (``>&-``), to nowhere.

    Otherwise the next file that is opened, such as a run's metrics, would have their number, and what libraries write
    to stdout or stderr would stand in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)


class Forgiving:
    """A text stream whose errors cost the words that could not be written; what comes later is tried again.

    Args:
      stream: None where the process was started without it.
    """

    def __init__(self, stream: IO[str] | None):
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        try:
            if self._stream is not None:
                self._stream.write(text)
        except UnicodeEncodeError:  # a locale without these letters
            return self.write(text.encode("ascii", "backslashreplace").decode())
        except LOST:
            self._drop()
        return len(text)

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except LOST:
            self._drop()

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("no such stream")
        return self._stream.fileno()

    def _drop(self) -> None:
        """Empties the stream's buffer into nowhere, so that no later flush fails at the same words."""
        assert self._stream is not None, "nothing failed without a stream"
        try:
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except (AttributeError, OSError, ValueError):  # closed, or no file at all
            return
        try:
            kept = os.dup(number)
        except OSError:  # its number was closed; from now on it leads nowhere
            kept = nowhere
        os.dup2(nowhere, number)
        with suppress(*LOST):
            self._stream.flush()
        os.dup2(kept, number)
        for descriptor in {kept, nowhere}:
            os.close(descriptor)
