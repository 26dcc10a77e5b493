"""Writes files that are safely on the disk when the function returns, and detects damage in a folder."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_json

MANIFEST = "manifest.json"
TRIAL_BYTES = 4096


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically: the file is old or new, never half, even after a power failure.

    Several processes may write the same file at once; one of them wins.
    """
    write_parts(path, [text])


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Writes a text file atomically from parts. Memory need not hold the whole text at once."""
    write_bytes(path, (part.encode() for part in parts))


def write_bytes(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file atomically from parts, as :func:`write_text` does."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # a name that only this call uses
    try:
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically, as :func:`write_text` does."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def try_to_write(folder: Path, what: Path) -> None:
    """Checks that files can be written in ``folder``: makes the folder if necessary, then writes and removes a file.

    The file has some bytes, because a full disk takes empty files.

    Args:
      folder: the folder to try.
      what: the file or folder that will be written there later, for the error sentence.

    Raises:
      UserError: the folder cannot be made or written.
    """
    trial = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with trial.open("xb") as file:
                file.write(bytes(TRIAL_BYTES))
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{what}: cannot be written: {error.strerror}") from error


def check_letters(folder: Path) -> None:
    """Raises UserError if the folder's name has bytes that are no letters in the locale of this process.

    Python can open such a folder, but the libraries that read and write checkpoints cannot.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{folder}: the locale of this process has no letters for this name; set PYTHONUTF8=1, or rename the folder"
        ) from error


def sync_folder(folder: Path) -> None:
    """Waits until the folder's list of file names is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def paths_in(folder: Path) -> list[Path]:
    """Everything in a folder and its subfolders, sorted. Links are not followed.

    ``Path.rglob`` of Python 3.13 spells names that the locale cannot read in another way than the folder's own.
    """
    return sorted(Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files))


def refuse_links(folder: Path) -> None:
    """Raises UserError if a run folder contains a symbolic link, a pipe, a socket or a device.

    Through a link jaxpg would write outside the folder, and at a pipe it would wait without end.
    """
    for path in paths_in(folder):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # another process has just removed it
            continue
        if stat.S_ISLNK(mode):
            raise UserError(f"{path}: a run folder must not contain symbolic links; put the file itself there")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: a run folder contains only files and folders; take this pipe or device out of it")


def unfinished_path(path: Path) -> Path:
    """Path of a video file while the video is being written."""
    return path.with_name(f".{path.stem}.unfinished.mp4")


def seal(folder: Path) -> None:
    """Waits until every file in ``folder`` is on the disk, then writes the manifest: each file's size and SHA-256."""
    files = {}
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in paths_in(folder):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                files[path.relative_to(folder).as_posix()] = size_and_hash(path)
    write_json(folder / MANIFEST, {"files": files})


def damage(folder: Path) -> str | None:
    """Describes the first damage in a sealed folder, or returns None if the folder is intact.

    Additional files whose names begin with a dot are ignored.
    """
    expected = _manifest(folder)
    if expected is None:
        return f"{MANIFEST} cannot be read"
    there = {path.relative_to(folder).as_posix() for path in paths_in(folder) if path.is_symlink() or not path.is_dir()}
    there.discard(MANIFEST)
    for name in sorted(expected.keys() | there):
        found = _damage_of_file(folder / name, name, expected) if name in there else f"{name} is missing"
        if found:
            return found
    return None


def damage_of_file(folder: Path, name: str) -> str | None:
    """Describes the damage of one file in a sealed folder, or returns None if it is intact. Reads no other file."""
    expected = _manifest(folder)
    if expected is None:
        return f"{MANIFEST} cannot be read"
    return _damage_of_file(folder / name, name, expected)


def _manifest(folder: Path) -> dict[str, tuple[int, str]] | None:
    """Size and hash of each file from the manifest, or None if the manifest cannot be read."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return {str(name): tuple(found) for name, found in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _damage_of_file(path: Path, name: str, expected: dict[str, tuple[int, str]]) -> str | None:
    if not os.path.lexists(path):
        return f"{name} is missing"
    if path.is_symlink() or not path.is_file():
        return f"{name} is not a regular file"
    if name not in expected:
        return None if path.name.startswith(".") else f"{name} does not belong to it"
    return None if size_and_hash(path) == expected[name] else f"{name} is not what was saved"


def size_and_hash(path: Path) -> tuple[int, str]:
    """Size of a file in bytes, and its SHA-256."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
