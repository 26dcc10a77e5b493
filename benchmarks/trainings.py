"""Shared code of the benchmarks of whole trainings: runs one training after another and resumes unfinished runs."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def split_argv(argv: list[str]) -> tuple[list[str], list[str]]:
    """Splits the arguments at ``--``: first the benchmark's own arguments, then the training's arguments."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def train(folder: Path, recipe: Path, flags: list[str], options: list[str]) -> None:
    """Trains in ``folder`` until the run ends by itself. A finished run is left as it is.

    Args:
      folder: the run folder. An unfinished run with a checkpoint is resumed.
      recipe: the recipe of a new run.
      flags: flags of a new run. A resumed run has these flags in its own configuration.
      options: flags of a new run and of a resumed run.
    """
    if read_summary(folder).get("ended", "SIG").startswith("SIG"):  # the run has not begun, or a signal ended it
        begun = (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir())
        new = [str(recipe), "--run.dir", str(folder), *flags]
        if folder.exists() and not begun:
            sys.exit(f"{folder}: a run without a checkpoint; remove it to begin it anew")
        call("train", *(["--resume", str(folder)] if begun else new), *options)


def call(command: str, *argv: str) -> None:
    """Runs ``python -m jaxpg.<command>``. If the command fails, this process ends with the command's exit code."""
    print(f"+ python -m jaxpg.{command} {' '.join(argv)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", f"jaxpg.{command}", *argv]) as process:
        code = None
        while code is None:
            with contextlib.suppress(KeyboardInterrupt):  # the command gets the signal, too, saves and ends with 130
                code = process.wait()
    if code:
        sys.exit(code)


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of a run's summary.json. Empty if the run has not written it yet."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
