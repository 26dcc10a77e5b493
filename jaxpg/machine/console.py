"""Everything that jaxpg says to the user.

Each sentence is a record of the logger ``jaxpg``. Commands write the records to stdout and stderr; programs that use
jaxpg as a library may handle the records themselves. Only this module writes to stdout and stderr. If the reader of a
stream is gone, the words are lost and the program continues.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from jaxpg.core.errors import printable

LOGGER = logging.getLogger("jaxpg")
LOGGER.addHandler(logging.NullHandler())  # as a library, jaxpg writes nothing unless the program asks for it

LOST = (OSError, ValueError, RuntimeError)
"""Errors of a write: OSError if nobody reads or the disk is full, ValueError if the stream is closed, and RuntimeError
if a signal interrupts another write."""


def say(sentence: str, *, error: bool = False) -> None:
    """Logs one line, as a warning if ``error`` is set. Never raises. Unprintable characters are escaped."""
    LOGGER.log(logging.WARNING if error else logging.INFO, "%s", printable(sentence))


def speak() -> None:
    """Writes each record at once from now on: warnings to stderr, everything else to stdout.

    However often a process calls this, each record is written only once.
    """
    if not any(isinstance(handler, _Speaker) for handler in LOGGER.handlers):
        LOGGER.addHandler(_Speaker())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # the handlers of other libraries would write each line again


@contextmanager
def speaking() -> Iterator[None]:
    """Writes each record, as ``speak`` does, while a command runs."""
    handlers, level, propagates = list(LOGGER.handlers), LOGGER.level, LOGGER.propagate
    speak()
    try:
        yield
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
        LOGGER.propagate = propagates


class _Speaker(logging.Handler):
    """Writes without a lock. A thread that ends the process must not wait for a thread that holds the lock."""

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        stream = Forgiving(sys.stderr if record.levelno >= logging.WARNING else sys.stdout)
        stream.write(record.getMessage() + "\n")
        stream.flush()


def flush() -> None:
    """Writes what libraries left in the buffers, such as the help text. Otherwise Python's own exit may fail."""
    for stream in (sys.stdout, sys.stderr):
        Forgiving(stream).flush()


def open_missing() -> None:
    """Opens each standard stream that was closed when the process started (``>&-``), and connects it to ``/dev/null``.

    Otherwise the next file that the process opens, such as a run's metrics, would get the stream's number. Libraries
    that write to stdout or stderr would then write into that file.
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
    """A text stream whose write errors never raise: the words that cannot be written are lost, later words are tried.

    Args:
      stream: the stream to write to. None if the process started without it.
    """

    def __init__(self, stream: IO[str] | None):
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        try:
            if self._stream is not None:
                self._stream.write(text)
        except UnicodeEncodeError:  # the locale's encoding lacks these letters
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
        """Empties the stream's buffer into ``/dev/null``, so that no later flush fails at the same words."""
        assert self._stream is not None, "nothing failed without a stream"
        try:
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except (AttributeError, OSError, ValueError):  # the stream is closed, or is no file
            return
        try:
            kept = os.dup(number)
        except OSError:  # the descriptor is closed; from now on it leads to /dev/null
            kept = nowhere
        os.dup2(nowhere, number)
        with suppress(*LOST):
            self._stream.flush()
        os.dup2(kept, number)
        for descriptor in {kept, nowhere}:
            os.close(descriptor)


class HelpText(Forgiving):
    """A stream for a help text, whose defaults may come from a stranger.

    It passes on lines and colours, and nothing else that commands a terminal.
    """

    def write(self, text: str) -> int:
        parts = re.split(r"(\x1b\[[0-9;]*m|\n)", text)
        super().write("".join(part if number % 2 else printable(part) for number, part in enumerate(parts)))
        return len(text)
