"""What is shared of a run: one checkpoint, the configuration, the evaluations, a video, a card, and a manifest.

The manifest has the size and the SHA-256 of each file. Whoever receives the files compares them with the manifest.
"""

import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from jaxpg import __version__
from jaxpg.core.errors import UserError
from jaxpg.core.strict_yaml import read_yaml
from jaxpg.core.user_modules import HASHES
from jaxpg.evaluate import load_policy
from jaxpg.machine.durable_files import damage, paths_in, size_and_hash
from jaxpg.scores.evaluation_file import Evaluation, read_evaluations
from jaxpg.share.card import About, card_of

CARD, MANIFEST = "README.md", "jaxpg.json"
CONFIG, EVALUATION = "config.yaml", "evaluation.json"
VIDEO, NUMBERS = "replay.mp4", "replay.json"
"""The video and its numbers. The hub shows a video of this name at the top of the card."""
FORMAT = 1
MAX_CARD_BYTES = 1_000_000
MAX_MANIFEST_BYTES, MAX_FILES = 1_000_000, 2_000
MAX_TEXT_BYTES = 50_000_000
"""Largest evaluations and numbers of a video, which are read as a whole."""
CHECKPOINT_FILE = re.compile(r"checkpoints/(0|[1-9]\d{0,11})((/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){1,6})")
"""Names of a checkpoint's files. No part begins with a dot, so no name leads out of its folder."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class FileEntry:
    """Size and hash of a file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Manifest:
    """The content of ``jaxpg.json``."""

    format: Annotated[int, Field(ge=1)]
    made_by: str
    game: str
    checkpoint: Annotated[int, Field(ge=0)]
    files: Annotated[dict[str, FileEntry], Field(max_length=MAX_FILES)]
    """Every file of the run by its name. The card is not among them, so that people may write on it."""


_MANIFEST = TypeAdapter(Manifest)


class Package(NamedTuple):
    """The files of a shared run."""

    checkpoint: int
    files: dict[str, Path | bytes]
    """Content or place of each file by its name, the manifest and the card included."""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which stands for all files except the card."""
        return digest_of(self.content(MANIFEST))

    def content(self, name: str) -> bytes:
        """The bytes of one file."""
        file = self.files[name]
        return file if isinstance(file, bytes) else file.read_bytes()

    def unpack(self, folder: Path) -> None:
        """Writes the package into an existing folder, as a run."""
        for name, file in self.files.items():
            path = folder / place_of(name, self.checkpoint)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file, bytes):
                path.write_bytes(file)
            else:
                shutil.copyfile(file, path)


def pack(
    run: Path,
    name: str,
    *,
    checkpoint: str = "latest",
    needs_scores: bool = True,
    note: str = "",
    how_to_get: str = "",
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> Package:
    """Collects what is shared of a run, and checks that the checkpoint can be loaded.

    Args:
      run: the run folder.
      name: the name of the model on its card.
      checkpoint: an iteration, ``latest``, or ``best``.
      needs_scores: whether a checkpoint without evaluation is refused.
      note: Markdown that the card shows below its title.
      how_to_get: shell command that fetches the run, for the card.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Raises:
      UserError: the run cannot be opened or is damaged, has links, or has no evaluation of this checkpoint; or the card
        is too large.
    """
    policy = load_policy(run, checkpoint, imports=imports, trust_imports=trust_imports)
    iteration, game = policy.checkpoint, policy.task.game
    all_of_them = [one for one in read_evaluations(run / EVALUATION) if not one.is_baseline]
    evaluations = [one for one in all_of_them if one.checkpoint == iteration]
    if needs_scores and not evaluations:
        raise UserError(
            f"{run}: no evaluation of checkpoint {iteration}; play games with python -m jaxpg.evaluate {run} "
            f"--checkpoint {iteration} first, or say --no-scores"
        )
    config, needed = shared_config(run / CONFIG)
    files: dict[str, Path | bytes] = {CONFIG: config, **_saved_files(run, iteration)}
    if evaluations:
        files[EVALUATION] = (json.dumps([dataclasses.asdict(one) for one in evaluations], indent=2) + "\n").encode()
    manifest = Manifest(
        format=FORMAT,
        made_by=f"jaxpg {__version__}",
        game=game,
        checkpoint=iteration,
        files={name: _entry(file) for name, file in sorted(files.items())},
    )
    files[MANIFEST] = _MANIFEST.dump_json(manifest, indent=2) + b"\n"
    about = About(name, game, iteration, policy.action_names, needed, how_to_get, note, has_video=VIDEO in files)
    files[CARD] = _card(about, evaluations)
    return Package(iteration, files)


def _saved_files(run: Path, iteration: int) -> dict[str, Path]:
    """The files of the checkpoint, and those of its video if there is one, by their shared names.

    Raises:
      UserError: a file has a name that no checkpoint's file has.
    """
    files = {
        path.relative_to(run).as_posix(): path
        for path in paths_in(run / "checkpoints" / str(iteration))
        if path.is_file() and not path.name.startswith(".")
    }
    for name, path in files.items():
        if not _is_known(name, iteration):
            raise UserError(f"{path}: no name of a checkpoint's file; take it out of the folder")
    for shared in (VIDEO, NUMBERS):
        video = run / place_of(shared, iteration)
        if video.is_file() and not video.is_symlink() and not video.parent.is_symlink():
            files[shared] = video
    return files


def _card(about: About, evaluations: Sequence[Evaluation]) -> bytes:
    card = card_of(about, evaluations).encode()
    if len(card) > MAX_CARD_BYTES:
        raise UserError(
            f"card: {CARD} would have {len(card):,} bytes, more than {MAX_CARD_BYTES:,}; give --card a shorter text"
        )
    return card


def shared_config(path: Path) -> tuple[bytes, list[str]]:
    """Reads a run's configuration without what concerns its author's machine alone: folders.

    Returns:
      The YAML text, and the imports that the run needs, where a file has lost its folder.
    """
    data = read_yaml(path)
    if isinstance(data.get("run"), dict):
        data["run"]["dir"] = ""
    imports = data.get("imports")
    needed = [_without_folder(str(name)) for name in imports] if isinstance(imports, list) else []
    if needed:
        data["imports"] = needed
    if isinstance(data.get(HASHES), dict):
        data[HASHES] = {_without_folder(str(name)): sha256 for name, sha256 in data[HASHES].items()}
    stream = io.StringIO()
    YAML(typ="rt").dump(data, stream)
    return stream.getvalue().encode(), needed


def _without_folder(name: str) -> str:
    """The import as the run names it on any machine: a file lies in the run folder.

    >>> [_without_folder(name) for name in ("/home/me/mine.py", "mine.parts")]
    ['./mine.py', 'mine.parts']
    """
    return f"./{Path(name).name}" if "/" in name or name.endswith(".py") else name


def place_of(name: str, checkpoint: int) -> str:
    """Where a shared file lies in a run folder."""
    return {VIDEO: f"videos/{checkpoint}.mp4", NUMBERS: f"videos/{checkpoint}.json"}.get(name, name)


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _entry(file: Path | bytes) -> FileEntry:
    if isinstance(file, bytes):
        return FileEntry(bytes=len(file), sha256=digest_of(file))
    num_bytes, sha256 = size_and_hash(file)
    return FileEntry(bytes=num_bytes, sha256=sha256)


def _is_known(name: str, checkpoint: int) -> bool:
    """Whether a shared run may have a file of this name."""
    found = CHECKPOINT_FILE.fullmatch(name)
    return int(found.group(1)) == checkpoint if found else name in (CONFIG, EVALUATION, VIDEO, NUMBERS)


def read_manifest(content: bytes, source: str) -> Manifest:
    """Reads a stranger's manifest.

    Args:
      content: the bytes of the file.
      source: where it comes from, for error sentences.

    Raises:
      UserError: this is no manifest, is of a newer version, or names a file that no shared run has.
    """
    try:
        data = json.loads(content)
        version = data["format"]
        if isinstance(version, int) and version > FORMAT:
            raise UserError(f"{source}: {MANIFEST} is of format {version}; a newer version of jaxpg can read it")
        manifest = _MANIFEST.validate_json(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{source}: {MANIFEST} is damaged or was not made by jaxpg") from error
    for name in manifest.files:
        if not _is_known(name, manifest.checkpoint):
            raise UserError(f"{source}: {MANIFEST} names {name!r}, which is no file of a shared run")
    if CONFIG not in manifest.files:
        raise UserError(f"{source}: {MANIFEST} names no {CONFIG}")
    return manifest


def check_files(folder: Path, manifest: Manifest, source: str) -> None:
    """Compares received files, which lie in a folder under their shared names, with the manifest.

    Raises:
      UserError: a file is missing, is no regular file, or is not what the manifest says; or the checkpoint is damaged.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{source}: {name} is missing or is no regular file")
        if path.stat().st_size != entry.bytes or _entry(path) != entry:
            raise UserError(f"{source}: {name} is not what was pushed: its content differs from {MANIFEST}")
    found = damage(folder / "checkpoints" / str(manifest.checkpoint))
    if found:
        raise UserError(f"{source}: the checkpoint is damaged: {found}")


def sizes_fit(manifest: Manifest, sizes: Mapping[str, int | None], max_bytes: int, source: str) -> None:
    """Checks the sizes that a hub announces, before anything is downloaded.

    Raises:
      UserError: a file is missing or has another size than the manifest says, or all files together are too large.
    """
    total = sum(entry.bytes for entry in manifest.files.values())
    if total > max_bytes:
        raise UserError(f"{source}: {total:,} bytes are more than {max_bytes:,}; allow more with --max-bytes")
    for name, entry in manifest.files.items():
        if name not in sizes:
            raise UserError(f"{source}: {name} is missing")
        if name in (EVALUATION, NUMBERS) and entry.bytes > MAX_TEXT_BYTES:
            raise UserError(f"{source}: {name} has {entry.bytes:,} bytes, more than {MAX_TEXT_BYTES:,}")
        if sizes[name] != entry.bytes:
            raise UserError(f"{source}: {name} is not what was pushed: it has {sizes[name]} bytes, not {entry.bytes}")
