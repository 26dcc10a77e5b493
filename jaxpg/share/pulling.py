"""Fetches a run from the Hugging Face Hub: the command and the function ``jaxpg.pull``.

A pulled run is a stranger's. Nothing in it runs code, only files that a shared run has are taken, and each of them is
compared with the manifest before the run gets its name.
"""

import dataclasses
import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from jaxpg.cli import open_run, parse
from jaxpg.core.errors import UserError
from jaxpg.core.strict_yaml import read_yaml
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import try_to_write
from jaxpg.scores.evaluation_file import read_evaluations
from jaxpg.share.hub import check_name, connected, errors_as_sentences
from jaxpg.share.packing import (
    CARD,
    CONFIG,
    EVALUATION,
    MANIFEST,
    MAX_CARD_BYTES,
    MAX_MANIFEST_BYTES,
    Manifest,
    check_files,
    digest_of,
    place_of,
    read_manifest,
    sizes_fit,
)

MAX_BYTES = 2_000_000_000
MOST_NAMED = 5
NOTHING = "nothing was written"


@dataclasses.dataclass(frozen=True)
class PullArguments:
    """Fetches a run from the Hugging Face Hub into a new run folder, and compares every file with the hash that was
    pushed with it. Files that do not belong to a run are left out, and nothing in it runs code. Needs the extra hub.
    """

    POSITIONAL: ClassVar[str] = "name of a repository"
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="USER/NAME")] = ""
    """Repository."""
    out: str = ""
    """New run folder; empty for runs/NAME."""
    revision: str = ""
    """Branch or commit; empty for main."""
    digest: str = ""
    """Digest that jaxpg push printed. Anything else is refused, even if its owner replaced it."""
    max_bytes: int = MAX_BYTES
    """Largest size of all files together."""


def pull(name: str, out: str | Path = "", *, revision: str = "", digest: str = "", max_bytes: int = MAX_BYTES) -> Path:
    """Fetches a run from the Hugging Face Hub into a new run folder.

    Args:
      name: the repository, ``"user/name"``.
      out: the new run folder; empty for ``runs/NAME``.
      revision: a branch or a commit; empty for main.
      digest: what ``jaxpg.push`` returned; empty for whatever the repository holds now.
      max_bytes: the largest size of all files together.

    Returns:
      The run folder.

    Raises:
      UserError: the folder exists, the repository does not exist or holds no run, a file is not what was pushed or too
        large, or the hub cannot be reached. Then nothing was written.
    """
    api = connected()
    check_name("name", name)
    folder = Path(out or Path("runs") / name.rpartition("/")[2])
    if os.path.lexists(folder):
        raise UserError(f"out: {folder} exists already; choose another folder with --out")
    try_to_write(folder.parent, folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".unfinished", dir=folder.parent))
    try:
        with errors_as_sentences(api, name, NOTHING):
            manifest, left_out = _download(api, name, revision, digest, max_bytes, temporary)
        run = temporary / "run"
        needed = _check_content(run, name)
        run.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; {NOTHING}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"jaxpg: {name}: checkpoint {manifest.checkpoint} of {manifest.game} is in {folder}")
    if left_out:
        more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
        say(f"jaxpg: {name}: files that belong to no run were left out: {', '.join(left_out[:MOST_NAMED])}{more}")
    if needed:
        flag = shlex.join(str(folder / one) if one.endswith(".py") else one for one in needed)
        say(f"jaxpg: {name}: the run needs code that is not part of it; get it, read it, and say --imports {flag}")
    return folder


def _download(
    api: Any, name: str, revision: str, digest: str, max_bytes: int, temporary: Path
) -> tuple[Manifest, list[str]]:
    """Downloads one commit into the folder ``run``, and compares every file with the manifest.

    Returns:
      The manifest, and the names of the files that were left out.

    Raises:
      UserError: there is no run of jaxpg, or it is not what was pushed.
    """
    info = api.model_info(name, revision=revision or None, files_metadata=True)
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    if MANIFEST not in sizes:
        raise UserError(f"{name}: no run of jaxpg: it has no {MANIFEST}; {NOTHING}")
    if not 0 <= (sizes[MANIFEST] or 0) <= MAX_MANIFEST_BYTES:
        raise UserError(f"{name}: {MANIFEST} has {sizes[MANIFEST]} bytes, more than {MAX_MANIFEST_BYTES:,}; {NOTHING}")
    received, run = temporary / "received", temporary / "run"

    def fetch(file: str) -> Path:
        return Path(api.hf_hub_download(name, file, revision=info.sha, local_dir=received))

    content = fetch(MANIFEST).read_bytes()
    if digest and digest_of(content) != digest.strip().lower():
        raise UserError(f"{name}: its digest is {digest_of(content)}, not {digest}; {NOTHING}")
    manifest = read_manifest(content, name)
    sizes_fit(manifest, sizes, max_bytes, name)
    taken = [*manifest.files, MANIFEST, *([CARD] if 0 < (sizes.get(CARD) or 0) <= MAX_CARD_BYTES else [])]
    for file in taken:
        fetch(file)
    check_files(received, manifest, name)
    for file in taken:
        path = run / place_of(file, manifest.checkpoint)
        path.parent.mkdir(parents=True, exist_ok=True)
        (received / file).rename(path)
    return manifest, sorted(sizes.keys() - set(taken) - {".gitattributes"})


def _check_content(run: Path, name: str) -> list[str]:
    """Checks that configuration and evaluations can be read, and returns the imports that the run needs.

    Raises:
      UserError: one of them cannot be read.
    """
    try:
        read_evaluations(run / EVALUATION)
        imports = read_yaml(run / CONFIG).get("imports") or []
        if not imports:  # with imports, only their code knows the settings
            open_run(run)
    except UserError as error:
        raise UserError(f"{name}: {str(error).replace(f'{run}/', '')}; {NOTHING}") from error
    return [str(one) for one in imports] if isinstance(imports, list) else []


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    pull(**vars(parse("pull", argv, PullArguments())))
    return 0
