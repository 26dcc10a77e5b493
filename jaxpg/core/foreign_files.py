"""Reads files that may come from a stranger: only regular files, no more bytes than are meant to be, and JSON."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON_BYTES = 100_000_000
"""Largest JSON file that is read as a whole. The objects that it makes may take twenty times as much memory."""
MAX_DIGITS = 20
"""Most characters of an integer in JSON. Larger ones, which no run writes, are no floats."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading.

    A pipe would be waited for without end, and a device such as ``/dev/zero`` would fill the memory.

    Raises:
      OSError: the file cannot be opened, or is no regular file.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return path.open("rb")


def read_regular(path: Path, most_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Reads a regular file as a whole.

    Raises:
      OSError: the file cannot be read, is no regular file, or is larger than ``most_bytes``.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes", str(path))
    return content


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      OSError: as for ``read_regular``.
      ValueError: the file is not JSON, is nested too deeply, or has integers of more than 20 digits.
    """
    return from_json(read_regular(path))


def from_json(text: str | bytes) -> Any:
    """Reads JSON. Raises ValueError where it is not JSON, nested too deeply, or has integers of more than 20 digits.

    >>> from_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer has more than {MAX_DIGITS} digits")
    return int(digits)
