"""One trainer at a time in a run folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jaxpg.core.errors import UserError
from jaxpg.machine.durable_files import refuse_links, write_json

LOCK, TRAINER = "lock", "trainer.json"
"""The lock itself, which the system takes back when a process ends, however it ends; and who holds it."""


@contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder, which is made when missing.

    Raises:
      UserError: another process trains there, or the folder cannot be written.
    """
    refuse_links(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, blocking=False)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{folder}: {_trainer(folder)} trains there already; end it first, or choose another"
        ) from error
    except OSError as error:
        raise UserError(f"run.dir: cannot write {folder}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(f"run.dir: {str(folder)!r} is no name of a folder") from error
    try:
        write_json(folder / TRAINER, {"process": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        lock.release()


def _trainer(folder: Path) -> str:
    try:
        trainer = json.loads((folder / TRAINER).read_bytes())
        return f"process {trainer['process']} on {trainer['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun
        return "another process"
