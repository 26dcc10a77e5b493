"""Writes one page about runs: ``jaxpg.report(runs)`` in Python, ``python -m jaxpg.report`` in a shell."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from jaxpg.cli import parse
from jaxpg.core.errors import UserError, no_run
from jaxpg.core.user_modules import Trust, import_all, resolved
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import try_to_write
from jaxpg.machine.prepared import CallableModule
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.viewing.charts import Chart, Format
from jaxpg.viewing.member_logs import by_member
from jaxpg.viewing.report_page import count, page_of, sections_of, videos_of, write_charts, write_page
from jaxpg.viewing.run_log import config_of_log, read_run
from jaxpg.viewing.serving import LOOPBACK, KeptPage, serve
from jaxpg.viewing.views import Run, number_runs
from jaxpg.viewing.whole_folder import page_of_folder

WHICH = "which runs? give a folder or more, such as runs/mine"


@dataclasses.dataclass(frozen=True)
class ReportArguments:
    """Writes one page (a single HTML file) about one run or several: curves, scores, time, settings and videos."""

    POSITIONAL: ClassVar[str] = "run folder or more"
    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN_DIR...")] = ()
    """Folders of runs, which may be finished or still in training; or the folder of one suite or study."""
    out: str = "report.html"
    """HTML file to write."""
    png: str = ""
    """Folder for the charts as PNG files; empty for no PNG files."""
    pdf: str = ""
    """Folder for the charts as PDF files, which stay sharp at any size, for papers; empty for no PDF files."""
    serve: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write nothing, but show the page to browsers and keep it current while the runs go on, until Ctrl-C."""
    host: str = LOOPBACK
    """Address that --serve listens on. Only this machine reaches the default; 0.0.0.0 is for everyone."""
    port: int = 0
    """Port that --serve listens on; 0 for any free one."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the run uses, in place of those that the run names."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the run folders name, which runs their code. Only a learner of your own needs it."""


def report(
    runs: Sequence[str | Path] | str | Path,
    out: str | Path = "report.html",
    *,
    png: str | Path = "",
    pdf: str | Path = "",
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> Path:
    """Writes one page about one run or several and returns its path.

    Args:
      runs: one run folder or several, finished or still in training; or the folder of one suite or study. A folder
        that is not a run is left out, and the logger ``jaxpg`` receives the reason.
      out: the HTML file to write.
      png: a folder for the charts as PNG files; empty for no PNG files.
      pdf: a folder for the charts as PDF files, for papers; empty for no PDF files.
      imports: modules and files to import first, because they register the learner of a run.
      trust_imports: whether to import the modules that the run folders name, which runs their code. Only a learner of
        your own needs it.

    Raises:
      UserError: no folder is a run, or the page or the charts cannot be written.
    """
    several = [runs] if isinstance(runs, str | Path) else runs
    trust = Trust(resolved(imports, Path()), trust_imports)
    import_all(trust.given)
    files: list[tuple[Format, Path]] = [("png", Path(png))] if png else []
    files += [("pdf", Path(pdf))] if pdf else []
    return _report([os.fspath(run) for run in several], Path(out), files, trust)


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    asked = parse("report", argv, ReportArguments())
    if asked.serve:
        if asked.png or asked.pdf or asked.out != ReportArguments.out:
            raise UserError(
                "--serve writes no files; leave out --out, --png and --pdf, or call report once more without it"
            )
        _serve(asked)
        return 0
    if (asked.host, asked.port) != (LOOPBACK, 0):
        raise UserError("--host and --port belong to --serve")
    report(
        asked.runs, asked.out, png=asked.png, pdf=asked.pdf, imports=asked.imports, trust_imports=asked.trust_imports
    )
    return 0


def _check_given(asked: Sequence[str]) -> None:
    """Raises UserError where no folder is given, or one that ``runs/*`` cannot have found."""
    if not asked:
        raise UserError(WHICH)
    for folder in asked:
        if not os.path.lexists(folder):
            raise UserError(f"{folder}: no run: {no_run(Path(folder))}")


def _report(asked: Sequence[str], out: Path, files: Sequence[tuple[Format, Path]], trust: Trust) -> Path:
    _check_given(asked)
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"out: the name of a page ends with .html, unlike {str(out)!r}")
    whole = len(asked) == 1 and page_of_folder(Path(asked[0]))
    if whole:
        return _write_whole(out, files, *whole)
    folders, remarks = _split(asked, trust)
    _try_places(out, files)
    with said_while_waiting(f"drawing the charts of {count(folders, 'run')}"):
        runs = _runs(folders, trust)
        sections, videos = sections_of(runs), videos_of(runs)
        charts = [chart for section in sections for chart in section.charts]
        charts += [chart for video in videos for chart in video.charts]
        write_page(out, page_of(runs, sections, videos))
        for kind, folder in files:
            write_charts(folder, charts, kind)
    what = f"{count(charts, 'chart')} and {count(videos, 'video')} of {count(runs, 'run')}"
    say(f"jaxpg: {what} in {out}")
    _say_files(files, charts)
    for remark in [*remarks, *(f"{run.name}: {remark}" for run in runs for remark in run.log.remarks)]:
        say(f"jaxpg: {remark}")
    return out


def _serve(asked: ReportArguments) -> None:
    """Shows the page of the runs to browsers until a signal ends the command."""
    trust = Trust(resolved(asked.imports, Path()), asked.trust_imports)
    import_all(trust.given)
    _check_given(asked.runs)
    serve(KeptPage(partial(_page, asked.runs, trust), [Path(run) for run in asked.runs]), asked.host, asked.port)


def _page(asked: Sequence[str], trust: Trust) -> str:
    """Makes the page, and names on it what is left out."""
    whole = len(asked) == 1 and page_of_folder(Path(asked[0]))
    if whole:
        return whole[0]
    folders, remarks = _split(asked, trust)
    runs = _runs(folders, trust)
    runs[0].log.remarks.extend(remarks)
    return page_of(runs, sections_of(runs), videos_of(runs))


def _runs(folders: Sequence[str], trust: Trust) -> list[Run]:
    """Reads the runs; each member of a population is one."""
    return number_runs([log for folder in folders for log in by_member(read_run(folder, trust))])


def _write_whole(out: Path, files: Sequence[tuple[Format, Path]], page: str, charts: Sequence[Chart]) -> Path:
    """Writes the page of a whole suite or study."""
    _try_places(out, files)
    write_page(out, page)
    for kind, folder in files:
        write_charts(folder, charts, kind)
    say(f"jaxpg: {count(charts, 'chart')} in {out}")
    _say_files(files, charts)
    return out


def _say_files(files: Sequence[tuple[Format, Path]], charts: Sequence[Chart]) -> None:
    for kind, folder in files:
        say(f"jaxpg: {count(charts, f'{kind.upper()} file')} in {folder}")


def _try_places(out: Path, files: Sequence[tuple[Format, Path]]) -> None:
    """Raises UserError where the page or its charts cannot be written, before time is spent on making them."""
    if out.is_dir():
        raise UserError(f"{out}: cannot be written: a folder has this name")
    try_to_write(out.parent, out)
    for _, folder in files:
        try_to_write(folder, folder)


def _split(folders: Sequence[str], trust: Trust) -> tuple[list[str], list[str]]:
    """Separates run folders from other folders and files, which ``runs/*`` may include.

    Returns:
      The run folders, and a sentence about each of the others.

    Raises:
      UserError: none of the folders is a run.
    """
    runs, remarks = [], []
    for folder in folders:
        try:
            config_of_log(folder, trust)
            runs.append(folder)
        except UserError as error:
            remarks.append(str(error))
    if not runs:
        raise UserError("; ".join(remarks))
    return runs, [f"left out: {remark}" for remark in remarks]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
