"""Files that are on the disk when a function returns, and a folder whose damage shows."""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from jaxpg.errors import UserError

MANIFEST = "manifest.json"


def write_text(path: Path, text: str) -> None:
    """Writes a text file so that it is old or new, never half, even where the power fails or several write it."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # of this call alone
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file likewise."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def try_to_write(folder: Path, what: Path) -> None:
    """Makes a folder where it is missing, and a file in it that is taken away at once.

    Raises:
      UserError: ``what``, which will be written there, cannot be.
    """
    trial = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise UserError(f"{what}: cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_links(folder: Path) -> None:
    """UserError where a run folder holds a symbolic link: what is written would leave the folder."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise UserError(f"{path}: a link; nothing is written in a run folder with links, put the file itself there")


def seal(folder: Path) -> None:
    """Waits until all that is in ``folder`` is on the disk, and writes the manifest: each file's size and SHA-256."""
    files = {}
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                files[path.relative_to(folder).as_posix()] = _size_and_hash(path)
    write_json(folder / MANIFEST, {"files": files})


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, None where nothing is. Names that begin with a dot are not looked at."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        expected = {str(name): tuple(size_and_hash) for name, size_and_hash in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} cannot be read"
    there = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    there.pop(MANIFEST, None)
    for name in sorted(expected.keys() | there.keys()):
        if name not in there:
            return f"{name} is missing"
        if there[name].is_symlink() or not there[name].is_file():
            return f"{name} is no file of its own"
        if name not in expected:
            if not there[name].name.startswith("."):
                return f"{name} does not belong to it"
        elif _size_and_hash(there[name]) != expected[name]:
            return f"{name} is not what was saved"
    return None


def _size_and_hash(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
