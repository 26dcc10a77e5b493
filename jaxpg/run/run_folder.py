"""The run folder: chooses and checks it, and writes its ``config.yaml``."""

import os
import shlex
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from jaxpg.config import Change, Config, changes, dump, load_hashes, load_history, load_imported
from jaxpg.core.errors import UserError
from jaxpg.core.user_modules import HASHES, hashes_of
from jaxpg.machine.durable_files import write_text
from jaxpg.run.lock import LOCK, TRAINER

MAX_CHANGES = 100
"""How many of the newest changes on resume ``config.yaml`` keeps, because a recipe that is too large is not read."""
SUMMARY = "summary.json"
"""File that says how a run ended; it exists only while no process trains in the folder."""


def new_run_folder(config: Config) -> Path:
    """Returns the folder that a new run will use, without creating it.

    Raises:
      UserError: the folder is not empty or cannot be read.
    """
    if not config.run.dir:
        name = f"{config.env.game}-seed{config.run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path("runs") / name
        numbers = count(2)
        while os.path.lexists(folder):  # another run began in the same second
            folder = Path("runs") / f"{name}-{next(numbers)}"
    else:
        folder = Path(os.path.expanduser(config.run.dir))
    try:
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise UserError(f"run.dir: cannot read {folder}: {error.strerror}") from error
    except ValueError as error:  # the name contains a NUL byte
        raise UserError(f"run.dir: {str(folder)!r} is no name of a folder") from error
    if "config.yaml" in there:
        words = f"--resume {shlex.quote(str(folder))}"
        raise UserError(f"run.dir: {folder} holds a run already; go on with {words} or choose another folder")
    if there - {LOCK, TRAINER}:  # a start that was interrupted leaves these two files
        raise UserError(f"run.dir: {folder} is not empty; choose another folder")
    return folder


def take_end_away(folder: Path) -> None:
    """Removes the summary of how the run ended, because the run goes on."""
    (folder / SUMMARY).unlink(missing_ok=True)


def write_config(folder: Path, config: Config, history: Sequence[Change] = ()) -> None:
    """Writes ``config.yaml`` into the folder.

    It has the resolved configuration, what was changed whenever the run was resumed, and the hashes of imported files.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        write_text(folder / "config.yaml", dump(config, history[-MAX_CHANGES:], hashes_of(config.imports)))
    except OSError as error:
        raise UserError(f"run.dir: cannot write {folder}: {error.strerror}") from error


def write_resumed_config(folder: Path, config: Config, agent_steps: int) -> None:
    """Writes the configuration of a resumed run, and adds what differs from the old configuration to the history.

    Args:
      folder: the run folder.
      config: the configuration with which the run goes on.
      agent_steps: how many agent steps the run has done so far.

    Raises:
      UserError: the folder cannot be written.
    """
    path = folder / "config.yaml"
    changed = changes(load_imported(path), config, agent_steps)
    then, now = load_hashes(path), hashes_of(config.imports)
    if then and then != now:
        changed.append(Change(agent_steps=agent_steps, setting=HASHES, before=then, after=now))
    write_config(folder, config, [*load_history(path), *changed])
