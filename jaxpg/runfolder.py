"""The folder of one run: what is in it, and that it can be written."""

import time
from pathlib import Path

from jaxpg.config import Config, dump
from jaxpg.errors import UserError
from jaxpg.metrics import write_text


def new_run_folder(config: Config) -> Path:
    """The folder that a new run will use; nothing is made yet.

    Raises:
      UserError: the folder holds something already or cannot be read.
    """
    if not config.run.dir:
        name = f"{config.env.game}-seed{config.run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path("runs") / name
    else:
        folder = Path(config.run.dir)
    try:
        holds_run, holds_files = (folder / "config.yaml").exists(), folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise UserError(f"run.dir: cannot read {folder}: {error.strerror}") from error
    if holds_run:
        raise UserError(f"run.dir: {folder} holds a run already; go on with --resume {folder} or choose another folder")
    if holds_files:
        raise UserError(f"run.dir: {folder} is not empty; choose another folder")
    return folder


def make_run_folder(folder: Path, config: Config) -> None:
    """Makes the folder and writes the resolved configuration, ``config.yaml``.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", dump(config))
    except OSError as error:
        raise UserError(f"run.dir: cannot write {folder}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(f"run.dir: {str(folder)!r} is no name of a folder") from error
