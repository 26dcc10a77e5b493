"""The only place that writes to stdout and stderr; a reader that is gone costs the words and nothing else."""

import os
import sys
from typing import IO


def say(sentence: str, *, error: bool = False) -> None:
    """Writes one line at once, to stderr where ``error``; never raises."""
    stream = Forgiving(sys.stderr if error else sys.stdout)
    stream.write(sentence + "\n")
    stream.flush()


def flush() -> None:
    """Writes what libraries such as the help's left in the buffers, so that Python's own end does not fail at it."""
    for stream in (sys.stdout, sys.stderr):
        Forgiving(stream).flush()


class Forgiving:
    """A text stream that is thrown away from the first error on.

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
        except (OSError, ValueError):
            self._throw_away()
        return len(text)

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            self._throw_away()

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("no such stream")
        return self._stream.fileno()

    def _throw_away(self) -> None:
        """What is in the stream's buffer, and what comes, goes nowhere, so that no later flush fails."""
        try:
            number = self.fileno()
        except (OSError, ValueError):  # closed, or no file at all
            self._stream = None
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
