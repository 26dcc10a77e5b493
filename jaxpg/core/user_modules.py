"""Imports the modules in which a user registers policies, observations, environments, learners and writers.

Importing a module runs its code. Modules that a file names (a recipe or a run folder) are imported only if the user
trusts the file. Modules that the user names on the command line or in Python are imported at once, and replace those
that the file names.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jaxpg.core.errors import UserError, first_line, raised


class Trust(NamedTuple):
    """Which modules that a file names may be imported."""

    given: tuple[str, ...] = ()
    """The modules that the user named, as ``resolved`` returns them."""
    everything: bool = False
    """Whether the user trusts the file and everything that it names."""


NOBODY = Trust()
HASHES = "imports_sha256"
"""The section of a run's ``config.yaml`` that has the hash of each imported file."""

_IMPORTED: dict[str, str] = {}
"""The modules that this process has imported for the user, in their order, with the SHA-256 of each module's file as it
was then; empty for a module without a file."""


def imported() -> list[str]:
    """The modules that this process has imported for the user, as ``import_all`` takes them."""
    return list(_IMPORTED)


def imports_flags() -> list[str]:
    """The flags with which a command of jaxpg imports the modules that this process has imported for the user."""
    return ["--imports", *_IMPORTED] if _IMPORTED else []


def hashes_of(imports: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each module's file when this process imported it, by the names that ``import_all`` takes.

    A module that was not imported, or has no file, is left out.
    """
    return {name: _IMPORTED[name] for name in imports if _IMPORTED.get(name)}


def remarks_on_changes(then: Mapping[str, str], imports: Sequence[str]) -> list[str]:
    """Sentences about modules that are not what a run was trained with.

    A file may lie in another folder. Nothing is said about a run of an older version, which kept no hashes.

    Args:
      then: what ``hashes_of`` returned in the training.
      imports: the modules that are imported now.
    """
    now = hashes_of(imports)
    if not then:
        return []
    names_then, names_now = ({Path(name).name for name in hashes} for hashes in (then, now))
    others = [name for name, sha256 in now.items() if sha256 not in then.values()]
    missing = [name for name, sha256 in then.items() if sha256 not in now.values() and Path(name).name not in names_now]
    changed = [f"{name} has changed since the run was trained" for name in others if Path(name).name in names_then]
    added = [f"the run was trained without {name}" for name in others if Path(name).name not in names_then]
    return [*changed, *added, *(f"the run was trained with {name}, which is not imported now" for name in missing)]


def defined(kind: type) -> list[type]:
    """The classes of a kind that the imported modules define, without those that they import themselves."""
    modules = [sys.modules.get(_module_name(Path(name)) if _is_path(name) else name) for name in _IMPORTED]
    found = [one for module in modules if module for one in vars(module).values() if isinstance(one, type)]
    names = {module.__name__ for module in modules if module}
    return [one for one in dict.fromkeys(found) if issubclass(one, kind) and one.__module__ in names]


def resolved(imports: Sequence[str], base: Path) -> tuple[str, ...]:
    """The imports with absolute file paths, so that a run finds the files from any working directory.

    Args:
      imports: names of modules (``mine``, ``package.mine``) or paths of files (``./mine.py``).
      base: the folder that relative paths start from.

    Raises:
      UserError: an import is not a valid path on this system, or ``imports`` is a single text.
    """
    if isinstance(imports, str):
        raise UserError(f"imports: a list of modules and files, such as [{imports!r}], not the text {imports!r}")
    return tuple(_absolute(name, base) if _is_path(name) else name for name in imports)


def import_all(imports: Sequence[str]) -> None:
    """Imports each module once in this process.

    Args:
      imports: modules as ``resolved`` returns them.

    Raises:
      UserError: a module does not exist, or raises an error while it is imported.
    """
    for name in imports:
        try:
            if _is_path(name):
                _import_file(Path(name))
            else:
                _import_module(name)
            if name not in _IMPORTED:  # a module that is imported again does not run again
                _IMPORTED[name] = _sha256(name)
        except UserError as error:
            raise UserError(f"imports: {name}: {error}") from error
        except Exception as error:
            place = _place(error)
            where = place if place.startswith(name) else f"{name}: {place}"
            raise UserError(f"imports: {where}{type(error).__name__}: {first_line(error)}") from error


def import_trusted(imports: Sequence[str], source: str, trust: Trust) -> tuple[str, ...]:
    """Imports the modules that the user named in place of the file's, or the file's if the user trusts the file.

    Where the user does both, all are imported, except for a file whose name is that of a file which the user named:
    that file has moved.

    Args:
      imports: the modules that the file names, as ``resolved`` returns them.
      source: the file, for the error sentence.
      trust: what the user trusts.

    Returns:
      The modules that were imported, the user's first.

    Raises:
      UserError: a module is not trusted (the sentence names the modules and the way out), or importing fails.
    """
    if imports and trust == NOBODY:
        raise UserError(
            f"{source}: it imports {', '.join(imports)}, which would run that code; if you trust it, "
            "say --trust-imports (in Python trust_imports=True), or pass --imports yourself"
        )
    moved = {Path(name).name for name in trust.given}
    own = [name for name in imports if Path(name).name not in moved] if trust.everything else []
    chosen = tuple(dict.fromkeys((*trust.given, *own)))
    import_all(chosen)
    return chosen


@contextmanager
def own_code(what: str, code: object, takes: str = "") -> Iterator[None]:
    """Turns an error that a user's own function or class raises into one sentence with its file and line.

    Errors of jaxpg's own functions and classes pass unchanged, because those are jaxpg's mistakes.

    Args:
      what: the setting that chose the code, for the error sentence.
      code: the function or class that the block calls.
      takes: the right signature, as ``wrong_signature`` takes it.

    Raises:
      UserError: the user's code raised an error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_jaxpgs(code):
            raise
        if takes and isinstance(error, TypeError) and (words := wrong_signature(code, takes)):
            raise UserError(f"{what}: {words}") from error
        raise UserError(f"{what}: {line_in(code, error)}{raised(error)}") from error


def wrong_signature(code: object, takes: str) -> str:
    """Says where a user's function or method is, and what it must take. Empty where it can be called as it must.

    Args:
      code: the function, or the class that has the method. A function may also stand for a class, to make instances.
      takes: the method and its parameters, such as ``step(self, action)``, or a function's, such as ``(config)``. Those
        after ``*`` are given by name.
    """
    name, _, listed = takes.removesuffix(")").partition("(")
    given, function = listed.split(", "), code
    called = getattr(code, "__qualname__", type(code).__name__)
    if isinstance(code, type):
        function = next((vars(one)[name] for one in code.__mro__[:-1] if name in vars(one)), None)
        if function is None:
            return f"{place_of(code)}{called} has no method {takes}"
        called = f"{called}.{name}"
    elif given[0] == "self":
        given = given[1:]
    edge = given.index("*") if "*" in given else len(given)
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]  # raises TypeError for what is no function
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*given[:edge], **dict.fromkeys(given[edge + 1 :]))
    except TypeError:
        has = ", ".join(signature.parameters)
        return f"{place_of(function)}{called} takes ({has}), but must take ({', '.join(given)})"
    return ""


def place_of(code: Any) -> str:
    """File and line at which a function or class is defined, for a sentence. Empty where it has none."""
    try:
        return f"{inspect.getsourcefile(code)}:{inspect.getsourcelines(code)[1]}: "
    except (TypeError, OSError):
        return ""


def is_jaxpgs(code: object) -> bool:
    """Whether a function or class comes with jaxpg."""
    return str(getattr(code, "__module__", "")).startswith("jaxpg.")


def line_in(code: object, error: Exception) -> str:
    """The innermost line of the user's file at which the error passed. Empty where the file has no such line."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(code))  # type: ignore[arg-type]  # raises TypeError for what has no source
    except TypeError:
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1]}: " if lines else ""


def _absolute(name: str, base: Path) -> str:
    try:
        return str((base / Path(name).expanduser()).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # text that is no path, or the home of an unknown user
        raise UserError(f"imports: {name!r}: this is not a valid path: {error}") from error


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name or os.sep in name


def _sha256(name: str) -> str:
    """SHA-256 of the file of an imported module. Empty where there is none to read."""
    file = name if _is_path(name) else getattr(sys.modules.get(name), "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise UserError("there is no such file; if it has moved, give its new place with --imports")
    main = sys.modules.get("__main__")
    if main is not None and _same_file(getattr(main, "__file__", None), path):
        return  # the running script has registered its own entries already
    name = _module_name(path)
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("only Python files, which end with .py, can be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that the file can import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))


def _module_name(path: Path) -> str:
    """The name under which a file is imported."""
    return f"jaxpg_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _import_module(name: str) -> None:
    sys.path.insert(0, os.getcwd())  # as ``python -m`` does; the console script does not
    try:
        importlib.import_module(name)
    finally:
        sys.path.remove(os.getcwd())


def _same_file(one: str | None, other: Path) -> bool:
    return one is not None and os.path.exists(one) and os.path.samefile(one, other)


def _place(error: Exception) -> str:
    """File and line in the user's code that raised the error. Empty if the user's code is not involved."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename == __file__:
        return ""
    return f"{frames[-1].filename}:{frames[-1].lineno}: "
