"""The folder of one run: what is in it, and that it can be written."""

import os
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from jaxpg.config import Change, Config, changes, dump, load_history, load_recipe
from jaxpg.core.errors import UserError
from jaxpg.core.user_modules import Trust
from jaxpg.machine.durable_files import write_text
from jaxpg.run.lock import LOCK, TRAINER

MAX_CHANGES = 100
"""Changes on resume that are kept, the newest ones; a recipe has a size beyond which it is not read."""
SUMMARY = "summary.json"
"""How a run ended; it is there only while nobody trains in the folder."""


def new_run_folder(config: Config) -> Path:
    """The folder that a new run will use; nothing is made yet.

    Raises:
      UserError: the folder holds something already or cannot be read.
    """
    if not config.run.dir:
        name = f"{config.env.game}-seed{config.run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path("runs") / name
        numbers = count(2)
        while os.path.lexists(folder):  # of a run begun in the same second
            folder = Path("runs") / f"{name}-{next(numbers)}"
    else:
        folder = Path(os.path.expanduser(config.run.dir))
    try:
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise UserError(f"run.dir: cannot read {folder}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(f"run.dir: {str(folder)!r} is no name of a folder") from error
    if "config.yaml" in there:
        raise UserError(f"run.dir: {folder} holds a run already; go on with --resume {folder} or choose another folder")
    if there - {LOCK, TRAINER}:  # which a start that was broken off leaves
        raise UserError(f"run.dir: {folder} is not empty; choose another folder")
    return folder


def take_end_away(folder: Path) -> None:
    """Takes away what says how the run ended, because it goes on."""
    (folder / SUMMARY).unlink(missing_ok=True)


def write_config(folder: Path, config: Config, history: Sequence[Change] = ()) -> None:
    """Writes the resolved configuration, ``config.yaml``, into the folder, and what was changed on resume.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        write_text(folder / "config.yaml", dump(config, history[-MAX_CHANGES:]))
    except OSError as error:
        raise UserError(f"run.dir: cannot write {folder}: {error.strerror}") from error


def write_resumed_config(folder: Path, config: Config, agent_steps: int) -> None:
    """Writes the configuration with which a run goes on after so many agent steps; what it changes joins the history.

    Raises:
      UserError: the folder cannot be written.
    """
    path = folder / "config.yaml"
    before = load_recipe(path, Trust(everything=True))  # it was trusted when the run was opened
    write_config(folder, config, [*load_history(path), *changes(before, config, agent_steps)])
