"""The run folder: chooses and checks it, and writes its ``config.yaml``."""

import os
import shlex
import shutil
import time
from collections.abc import Sequence, Set
from itertools import count
from pathlib import Path

from jaxpg.config import Change, Config, changes, dump, load_hashes, load_history, load_imported
from jaxpg.core.errors import UserError
from jaxpg.core.user_modules import HASHES, hashes_of
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import write_text
from jaxpg.run.lock import LOCK, TRAINER

MAX_CHANGES = 100
"""How many of the newest changes on resume ``config.yaml`` keeps, because a recipe that is too large is not read."""
SUMMARY = "summary.json"
"""File that says how a run ended; it exists only while no process trains in the folder."""
CONFIG, METRICS, CHECKPOINTS = "config.yaml", "metrics.jsonl", "checkpoints"
LEFT_BY_A_START = {CONFIG, LOCK, TRAINER, METRICS, CHECKPOINTS, SUMMARY, "episodes.csv", "tensorboard"}
"""What a start may leave in its folder that failed in the first iteration."""


def new_run_folder(config: Config) -> Path:
    """Returns the folder that a new run will use, without creating it.

    The folder may hold a start that trained nothing.

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
    if TRAINER in there and _trained_nothing(folder, there):
        return folder
    if CONFIG in there:
        words = f"--resume {shlex.quote(str(folder))}"
        raise UserError(f"run.dir: {folder} holds a run already; go on with {words} or choose another folder")
    if there - {LOCK, TRAINER}:  # a start that was interrupted leaves these two files
        raise UserError(f"run.dir: {folder} is not empty; choose another folder")
    return folder


def _trained_nothing(folder: Path, there: Set[str]) -> bool:
    """Whether the folder holds a run without an iteration, and nothing that somebody else has put there.

    Args:
      folder: the folder.
      there: the names of what is in it.
    """
    metrics, saved = folder / METRICS, [path.name for path in (folder / CHECKPOINTS).glob("*")]
    return (
        CONFIG in there
        and there <= LEFT_BY_A_START
        and not (metrics.exists() and metrics.stat().st_size)
        and all(name == "0" or name.endswith(".unfinished") for name in saved)
    )


def begin_anew(folder: Path) -> None:
    """Removes what an earlier start has left in a new run's folder, which this process has locked.

    Raises:
      UserError: another process has trained there meanwhile, or the folder cannot be written.
    """
    there = {path.name for path in folder.iterdir()}
    if CONFIG not in there:
        return
    if not _trained_nothing(folder, there):
        raise UserError(f"run.dir: {folder} holds a run by now; choose another folder")
    try:
        for name in there - {LOCK, TRAINER}:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise UserError(f"run.dir: cannot write {folder}: {error.strerror}") from error
    say(f"jaxpg: {folder}: an earlier start trained nothing there, and the run begins anew")


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
