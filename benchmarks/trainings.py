"""What the benchmarks of whole trainings share: one run after another, each resumed where it was cut off."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def split_argv(argv: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before ``--``, which are the benchmark's own, and those behind it."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def train(folder: Path, recipe: Path, flags: list[str], options: list[str]) -> None:
    """Trains in ``folder`` until the run ends by itself; a run that has is left as it is.

    Args:
      folder: of the run; one that was cut off after a checkpoint is resumed.
      recipe: of a new run.
      flags: of a new run; a resumed one has them in its own configuration.
      options: of a new run and of a resumed one.
    """
    if read_summary(folder).get("ended", "SIG").startswith("SIG"):  # not begun, or ended by a signal
        begun = (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir())
        new = [str(recipe), "--run.dir", str(folder), *flags]
        if folder.exists() and not begun:
            sys.exit(f"{folder}: a run without a checkpoint; remove it to begin it anew")
        call("train", *(["--resume", str(folder)] if begun else new), *options)


def call(command: str, *argv: str) -> None:
    """Runs ``python -m jaxpg.<command>``; where it fails, this process ends with its exit code."""
    print(f"+ python -m jaxpg.{command} {' '.join(argv)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", f"jaxpg.{command}", *argv]) as process:
        code = None
        while code is None:
            with contextlib.suppress(KeyboardInterrupt):  # the command gets it too: it saves, and ends with 130
                code = process.wait()
    if code:
        sys.exit(code)


def read_summary(folder: Path) -> dict[str, Any]:
    """What a run says about its end; empty while there is none."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
