"""Importing the modules in which a user registers policies, observations, environments, learners and writers.

Importing runs code. So what a file names (a recipe, a run folder) is imported only when the user says that the file can
be trusted; what the user names on the command line or in Python is imported at once.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxpg.core.errors import UserError, first_line


class Trust(NamedTuple):
    """Which of the imports that a file names may be run."""

    given: tuple[str, ...] = ()
    """What the user named himself, as ``resolved`` gives it."""
    everything: bool = False
    """Whether the user said that the file can be trusted."""


NOBODY = Trust()


def resolved(imports: Sequence[str], base: Path) -> tuple[str, ...]:
    """The imports with every file's path made absolute, so that a run finds it from any working directory.

    Args:
      imports: names of modules (``mine``, ``package.mine``) or paths of files (``./mine.py``).
      base: the folder that relative paths begin in.

    Raises:
      UserError: a path is none that the system has.
    """
    return tuple(_absolute(name, base) if _is_path(name) else name for name in imports)


def import_all(imports: Sequence[str]) -> None:
    """Imports each module once in this process.

    Args:
      imports: as ``resolved`` gives them.

    Raises:
      UserError: there is no such module, or an error is raised while it is imported.
    """
    for name in imports:
        try:
            if _is_path(name):
                _import_file(Path(name))
            else:
                _import_module(name)
        except UserError as error:
            raise UserError(f"imports: {name}: {error}") from error
        except Exception as error:
            raise UserError(f"imports: {name}: {_place(error)}{type(error).__name__}: {first_line(error)}") from error


def import_trusted(imports: Sequence[str], source: str, trust: Trust) -> None:
    """Imports what a file names, where the user trusts the file or named the same modules.

    Args:
      imports: what the file names, as ``resolved`` gives it.
      source: the file, for the sentence.
      trust: in what.

    Raises:
      UserError: it is not trusted; the sentence has the names, and how to go on. Or importing fails.
    """
    unknown = [name for name in imports if name not in trust.given]
    if unknown and not trust.everything:
        raise UserError(
            f"{source}: it imports {', '.join(unknown)}, which would run that code; if you trust it, "
            "say --trust-imports, or pass --imports yourself"
        )
    import_all(imports)


def _absolute(name: str, base: Path) -> str:
    try:
        return str((base / Path(name).expanduser()).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # no text for a path, or ~nobody
        raise UserError(f"imports: {name!r}: no path of a file: {error}") from error


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name or os.sep in name


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise UserError("there is no such file")
    main = sys.modules.get("__main__")
    if main is not None and _same_file(getattr(main, "__file__", None), path):
        return  # the script that is running has registered its own
    name = f"jaxpg_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("a file to import is Python and ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that it can import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))


def _import_module(name: str) -> None:
    sys.path.insert(0, os.getcwd())  # as ``python -m`` has it, for the console script too
    try:
        importlib.import_module(name)
    finally:
        sys.path.remove(os.getcwd())


def _same_file(one: str | None, other: Path) -> bool:
    return one is not None and os.path.exists(one) and os.path.samefile(one, other)


def _place(error: Exception) -> str:
    """Where in the user's file an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename == __file__:
        return ""
    return f"{frames[-1].filename}:{frames[-1].lineno}: "
