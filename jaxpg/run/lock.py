"""The lock of a run folder, which lets only one process train there at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_json
from jaxpg.machine.durable_files import check_letters, refuse_links, write_json

LOCK, TRAINER = "lock", "trainer.json"
"""The lock file, and the file that names the process that holds it. The system releases the lock when that process
ends, however it ends.
"""


@contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder; creates the folder if it does not exist.

    Raises:
      UserError: another process trains in the folder, or the folder cannot be written.
    """
    with ExitStack() as held:
        try:
            refuse_links(folder)
            check_letters(folder.absolute())
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK, blocking=False)
            lock.acquire()
            held.callback(lock.release)
            write_json(folder / TRAINER, {"process": os.getpid(), "host": socket.gethostname()})
        except Timeout as error:
            raise UserError(
                f"{folder}: {_trainer(folder)} trains there already; end it first, or choose another"
            ) from error
        except OSError as error:
            raise UserError(f"run.dir: cannot write {folder}: {error.strerror or error}") from error
        except ValueError as error:  # the name contains a NUL byte
            raise UserError(f"run.dir: {str(folder)!r} is no name of a folder") from error
        yield


def _trainer(folder: Path) -> str:
    try:
        trainer = read_json(folder / TRAINER)
        return f"process {trainer['process']} on {trainer['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # the other process has not written the file yet
        return "another process"
