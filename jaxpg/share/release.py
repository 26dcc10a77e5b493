"""Packs the best policies of a suite for a release: ``python -m jaxpg.share.release runs/suite --out pretrained``."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from jaxpg.cli import parse
from jaxpg.core.errors import UserError
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import try_to_write
from jaxpg.scores.suite_file import SUITE_FILE, SuiteRow, read_suite
from jaxpg.share.packing import CARD, pack


@dataclasses.dataclass(frozen=True)
class ReleaseArguments:
    """Packs the policies of a suite for a release: of each recipe and game the best seed, with its card, as a folder
    that every command reads. The folder and a .tar.gz of it are written.
    """

    POSITIONAL: ClassVar[str] = "folder of a suite"
    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE_DIR")] = ""
    """Folder of a suite, which has suite.json."""
    out: str = "pretrained"
    """New folder; the archive has the same name and .tar.gz behind it."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the runs use, in place of those that the runs name."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the runs name, which runs their code."""


def release(suite: Path, out: Path, *, imports: Sequence[str] = (), trust_imports: bool = False) -> list[SuiteRow]:
    """Packs the best run of each recipe and game, and returns their rows.

    Args:
      suite: the folder of the suite.
      out: the new folder.
      imports: modules and files to import first, because they register what the runs use.
      trust_imports: whether to import the modules that the runs name, which runs their code.

    Raises:
      UserError: there is no suite, it has no score, ``out`` exists or cannot be written, or a run cannot be packed.
        Then nothing was written.
    """
    results = read_suite(suite / SUITE_FILE)
    groups: dict[tuple[str, str], list[SuiteRow]] = {}
    for row in results.rows:
        if row.scores and not row.failure:
            groups.setdefault(row.group, []).append(row)
    best = {group: max(rows, key=_score) for group, rows in groups.items()}
    if not best:
        raise UserError(
            f"{suite}: no run has a score; call python -m jaxpg.suite again, which plays missing evaluations"
        )
    archive = out.with_name(f"{out.name}.tar.gz")
    for path in (out, archive):
        if os.path.lexists(path):
            raise UserError(f"out: {path} exists already; choose another folder")
    try_to_write(out.parent, out)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".unfinished", dir=out.parent))
    try:
        folder = temporary / out.name
        folder.mkdir()
        for group, row in best.items():
            name = _name(row)
            package = pack(
                suite / row.folder,
                name,
                checkpoint=results.checkpoint,
                note=_note(len(groups[group])),
                imports=imports,
                trust_imports=trust_imports,
            )
            (folder / name).mkdir()
            package.unpack(folder / name)
        (folder / CARD).write_text(_table(list(best.values()), out.name), encoding="utf-8")
        made = Path(shutil.make_archive(str(temporary / "archive"), "gztar", temporary, out.name))
        made.rename(archive)
        folder.rename(out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"jaxpg: {len(best)} policies are in {out}, and in {archive} ({archive.stat().st_size:,} bytes)")
    return list(best.values())


def _score(row: SuiteRow) -> float:
    return max(score.mean for score in row.scores.values())


def _note(seeds: int) -> str:
    """What the card says about the choice among several seeds."""
    if seeds == 1:
        return ""
    return (
        f"This is the best of {seeds} seeds by the scores below. The best of several is lucky, too: play new "
        "games, with another --seed, before you compare."
    )


def _name(row: SuiteRow) -> str:
    return f"{row.recipe}-{row.game}".replace("/", "_")


def _table(rows: Sequence[SuiteRow], title: str) -> str:
    """The table of all policies, as Markdown."""
    lines = [
        f"# {title}",
        "",
        "| policy | game | recipe | seed | mean | actions | games |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        actions, score = max(row.scores.items(), key=lambda item: item[1].mean)
        link = f"[{_name(row)}]({_name(row)}/{CARD})"
        numbers = f"{score.mean:.2f} | {actions} | {score.episodes}"
        lines.append(f"| {link} | {row.game} | {row.recipe} | {row.seed} | {numbers} |")
    return "\n".join(lines) + "\n"


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    asked = parse("share.release", argv, ReleaseArguments())
    release(Path(asked.suite), Path(asked.out), imports=asked.imports, trust_imports=asked.trust_imports)
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


if __name__ == "__main__":
    main()
