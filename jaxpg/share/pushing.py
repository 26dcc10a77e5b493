"""Puts a run on the Hugging Face Hub: the command and the function ``jaxpg.push``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from jaxpg.cli import parse
from jaxpg.core.errors import UserError
from jaxpg.machine.console import say
from jaxpg.share.hub import check_name, check_token, connected, errors_as_sentences
from jaxpg.share.packing import CHECKPOINT_FILE, EVALUATION, MANIFEST, MAX_CARD_BYTES, NUMBERS, VIDEO, Package, pack

FROM_THE_HUB = {".gitattributes"}
"""Files that the hub puts into every new repository."""
UNFINISHED = "nothing of it is visible in the repository, and the same command goes on where it stopped"


@dataclasses.dataclass(frozen=True)
class PushArguments:
    """Puts a run on the Hugging Face Hub: one checkpoint, the configuration, the evaluations, the video of the
    checkpoint if there is one, and a card with the scores. Needs jaxpg's extra hub, and a token in HF_TOKEN or from
    hf auth login.
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder."""
    to: Annotated[str, tyro.conf.arg(metavar="USER/NAME")] = ""
    """Repository. It is created where it does not exist; one with anything but a run of jaxpg is refused."""
    checkpoint: str = "latest"
    """Iteration of a checkpoint, latest, or best."""
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether a new repository is visible to you alone. A public one that exists is refused."""
    scores: bool = True
    """Whether the checkpoint must have been evaluated. With --no-scores the card may have no table."""
    card: str = ""
    """Markdown file whose text the card shows below its title."""
    message: str = ""
    """Message of the commit; empty for one that names the checkpoint."""
    revision: str = ""
    """Branch; empty for main. It is created where it does not exist."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the run uses, in place of those that the run names."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the run folder names, which runs their code."""


def push(
    run: str | Path,
    to: str,
    *,
    checkpoint: str | int = "latest",
    private: bool = False,
    scores: bool = True,
    card: str | Path = "",
    message: str = "",
    revision: str = "",
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> str:
    """Puts a run on the Hugging Face Hub, in one commit.

    Args:
      run: the run folder.
      to: the repository, ``"user/name"``. It is created where it does not exist.
      checkpoint: an iteration, ``"latest"``, or ``"best"``.
      private: whether a new repository is visible to its owner alone.
      scores: whether a checkpoint without evaluation is refused.
      card: a Markdown file whose text the card shows below its title.
      message: message of the commit.
      revision: a branch; empty for main.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Returns:
      The digest of the push: the SHA-256 of its manifest. ``jaxpg.pull`` can compare what it fetches with it.

    Raises:
      UserError: the run cannot be shared, there is no token, the repository holds something else, or the hub refuses
        or cannot be reached. Then the repository has not changed.
    """
    api = connected()
    check_name("to", to)
    check_token()
    name = to.rpartition("/")[2]
    package = pack(
        Path(run),
        name,
        checkpoint=str(checkpoint),
        needs_scores=scores,
        note=_note(Path(card)) if card else "",
        how_to_get=f"python -m jaxpg.pull {to} --out runs/{name}",
        imports=imports,
        trust_imports=trust_imports,
    )
    with errors_as_sentences(api, to, UNFINISHED):
        head = _prepare(api, to, revision, private=private)
        text = message or f"Checkpoint {package.checkpoint} with jaxpg"
        commit = _commit(api, to, package, text, revision, head)
    _say_pushed(package, run, f"{api.endpoint}/{to}", is_new=not head or commit.oid != head.sha)
    say(f"jaxpg: digest {package.digest}, for python -m jaxpg.pull {to} --digest")
    return package.digest


def _say_pushed(package: Package, run: str | Path, url: str, *, is_new: bool) -> None:
    what = f"checkpoint {package.checkpoint}, {len(package.files)} files"
    say(f"jaxpg: {what} of {run} are at {url}" if is_new else f"jaxpg: {url} has {what} of {run} already")
    if VIDEO not in package.files:
        say(f"jaxpg: no video; python -m jaxpg.record {run} --checkpoint {package.checkpoint} makes one for the card")


def _note(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CARD_BYTES + 1)
        if len(text) > MAX_CARD_BYTES:
            raise UserError(f"card: {path} is larger than {MAX_CARD_BYTES:,} bytes; write a shorter one")
        return text.decode()
    except OSError as error:
        raise UserError(f"card: {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"card: {path} is not UTF-8 text (byte {error.start})") from error


def _prepare(api: Any, to: str, revision: str, *, private: bool) -> Any:
    """Finds or makes the repository and the branch. Returns what the hub knows of the branch; None where it is new.

    Raises:
      UserError: the repository holds something else than a run of jaxpg, or is public although a private one is asked.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = api.model_info(to)
    except RepositoryNotFoundError:
        api.create_repo(to, private=private)
        there = None
    if there and private and not there.private:
        raise UserError(f"to: {to} exists already and is public; choose another name, or make it private on the hub")
    if there and (others := _names(there) - FROM_THE_HUB) and MANIFEST not in others:
        raise UserError(f"to: {to} exists already and holds something else, such as {min(others)}; choose another name")
    if revision:
        api.create_branch(to, branch=revision, exist_ok=True)
        return api.model_info(to, revision=revision)
    return there


def _commit(api: Any, to: str, package: Package, message: str, revision: str, head: Any) -> Any:
    """Makes one commit: all files of the package, without the files of an older push that are not in it."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    older = {name for name in _names(head) if CHECKPOINT_FILE.fullmatch(name) or name in (EVALUATION, VIDEO, NUMBERS)}
    operations: list[Any] = [CommitOperationAdd(name, file) for name, file in package.files.items()]
    operations += [CommitOperationDelete(name, is_folder=False) for name in sorted(older - package.files.keys())]
    return api.create_commit(
        to,
        operations,
        commit_message=message,
        revision=revision or None,
        parent_commit=head.sha if head else None,
    )


def _names(info: Any) -> set[str]:
    return {file.rfilename for file in info.siblings or ()} if info else set()


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    push(**vars(parse("push", argv, PushArguments())))
    return 0
