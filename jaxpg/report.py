"""One page of what runs did: ``jaxpg.report(runs)`` in Python, ``python -m jaxpg.report`` in a shell."""

import base64
import dataclasses
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jinja2
import tyro
from markupsafe import Markup

from jaxpg import __version__
from jaxpg.cli import parse
from jaxpg.config import dump, load_run
from jaxpg.core.errors import UserError
from jaxpg.core.user_modules import Trust, import_all, resolved
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import try_to_write, write_text
from jaxpg.machine.prepared import CallableModule
from jaxpg.viewing.charts import Chart, draw_png, draw_svg, in_words, short
from jaxpg.viewing.run_log import read_run
from jaxpg.viewing.tables import Table, checkpoints_table, runs_table, settings_table, time_table
from jaxpg.viewing.views import (
    Run,
    evaluation_chart,
    games_chart,
    learning_charts,
    number_runs,
    signal_charts,
    time_chart,
    trace_charts,
)

PAGE = Path(__file__).parent / "viewing" / "page"


@dataclasses.dataclass(frozen=True)
class ReportArguments:
    """Writes one page (HTML, in one file) that shows what runs did: curves, scores, time, settings and videos."""

    POSITIONAL: ClassVar[str] = "run folder or more"
    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN_DIR...")] = ()
    """Run folders, finished or still being written."""
    out: str = "report.html"
    """HTML file to write."""
    png: str = ""
    """Folder for the same charts as PNG files, for papers; empty for none."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) to import first, because they register what the run uses."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether the modules that the run folder names are imported, which runs their code."""


def report(
    runs: Sequence[str | Path] | str | Path,
    out: str | Path = "report.html",
    *,
    png: str | Path = "",
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> Path:
    """Writes one page that shows what runs did, and returns its path.

    Args:
      runs: a run folder or several, finished or still being written; what is no run is left out, and logged.
      out: the HTML file.
      png: a folder for the same charts as PNG files; empty for none.
      imports: modules and files to import first, because they register what the runs use.
      trust_imports: whether those that the run folders name are imported, which runs their code.

    Raises:
      UserError: nothing is a run, or a place cannot be written.
    """
    several = [runs] if isinstance(runs, str | Path) else runs
    trust = Trust(resolved(imports, Path.cwd()), trust_imports)
    import_all(trust.given)
    return _report([os.fspath(run) for run in several], Path(out), Path(png) if png else None, trust)


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    asked = parse("report", argv, ReportArguments())
    if not asked.runs:
        raise UserError("which runs? give a folder or more, such as runs/mine")
    report(asked.runs, asked.out, png=asked.png, imports=asked.imports, trust_imports=asked.trust_imports)
    return 0


def _report(asked: Sequence[str], out: Path, charts_folder: Path | None, trust: Trust) -> Path:
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"out: the name of a page ends with .html, unlike {str(out)!r}")
    folders, remarks = _split(asked, trust)
    _try_places(out, charts_folder)
    runs = number_runs([read_run(folder, trust) for folder in folders])
    sections, videos = _sections(runs), _videos(runs)
    charts = [chart for section in sections for chart in section.charts]
    charts += [chart for video in videos for chart in video.charts]
    _write(out, _page(runs, sections, videos))
    if charts_folder:
        _write_pngs(charts_folder, charts)
    what = f"{_count(charts, 'chart')} and {_count(videos, 'video')} of {_count(runs, 'run')}"
    say(f"jaxpg: {what} in {out}")
    if charts_folder:
        say(f"jaxpg: {_count(charts, 'PNG file')} in {charts_folder}")
    for remark in [*remarks, *(f"{run.name}: {remark}" for run in runs for remark in run.log.remarks)]:
        say(f"jaxpg: {remark}")
    return out


def _try_places(out: Path, charts_folder: Path | None) -> None:
    """UserError where the page or its charts cannot be written, before they are made."""
    if out.is_dir():
        raise UserError(f"{out}: cannot be written: a folder has this name")
    try_to_write(out.parent, out)
    if charts_folder:
        try_to_write(charts_folder, charts_folder)


def _split(folders: Sequence[str], trust: Trust) -> tuple[list[str], list[str]]:
    """The run folders among what ``runs/*`` stands for, and of each other one a sentence.

    Raises:
      UserError: none is a run.
    """
    runs, remarks = [], []
    for folder in folders:
        try:
            load_run(folder, trust)
            runs.append(folder)
        except UserError as error:
            remarks.append(str(error))
    if not runs:
        raise UserError("; ".join(remarks))
    return runs, [f"left out: {remark}" for remark in remarks]


class Section(NamedTuple):
    """A part of the page."""

    title: str
    note: str
    charts: list[Chart]
    tables: list[Table]
    is_detail: bool = False
    """Whether it stands below the videos."""


class VideoCard(NamedTuple):
    """A video on the page, with the charts of its first game."""

    title: str
    content: bytes
    charts: list[Chart]


def _sections(runs: Sequence[Run]) -> list[Section]:
    games = [games_chart(run, i) for i, run in enumerate(runs)]
    sections = [
        Section(
            "How it learned",
            "Unclipped scores of whole games as they ended in training. Of runs that differ by the seed only, the mean "
            "is drawn as far as all of them go, from three seeds on with Student's 95 % interval over seeds.",
            [*learning_charts(runs), *_there(games)],
            [],
        ),
        Section(
            "How good it is",
            "Whole games played after training (python -m jaxpg.evaluate); every game that was begun counts. The "
            "interval of the mean is Student's t without the skewness; a game played several times counts once in it.",
            _there([evaluation_chart(runs)]),
            _there([checkpoints_table(runs)]),
        ),
        Section("Where the time went", "", _there([time_chart(runs)]), _there([time_table(runs)]), True),
        Section("The learner's own numbers", "Means of neighbouring iterations.", signal_charts(runs), [], True),
    ]
    return [section for section in sections if section.charts or section.tables]


def _videos(runs: Sequence[Run]) -> list[VideoCard]:
    cards = []
    for run in runs:
        for video in run.log.videos:
            name, trace = f"{run.name}: {video.path.stem}", video.trace
            try:
                content = video.path.read_bytes()
            except OSError as error:  # it was taken away since the folder was read
                run.log.remarks.append(f"{video.path.name} cannot be read: {error.strerror}")
                continue
            if trace is None or not trace["games"]:
                cards.append(VideoCard(name, content, []))
                continue
            returns = ", ".join(short(sum(game["rewards"])) for game in trace["games"])
            title = f"{run.name}: checkpoint {trace['checkpoint']}, return {returns}"
            key = f"video_{len(cards)}"
            cards.append(VideoCard(title, content, trace_charts(trace["games"][0], trace["action_names"], key)))
    return cards


def _page(runs: Sequence[Run], sections: Sequence[Section], videos: Sequence[VideoCard]) -> str:
    script, style = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    games = sorted({run.log.config.env.game for run in runs})
    return environment.get_template("page.html").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs of {', '.join(games)}",
        version=__version__,
        made=time.strftime("%Y-%m-%d %H:%M"),
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        overview=runs_table(runs),
        remarks=[(run.name, remark) for run in runs for remark in run.log.remarks],
        sections=[{**section._asdict(), "charts": [_drawn(chart) for chart in section.charts]} for section in sections],
        videos=[
            {
                "title": card.title,
                "charts": [_drawn(chart) for chart in card.charts],
                "content": base64.b64encode(card.content).decode(),
            }
            for card in videos
        ],
        differences=settings_table(runs),
        configs=[(run.name, dump(run.log.config, run.log.history)) for run in runs],
    )


def _drawn(chart: Chart) -> dict[str, Any]:
    """A chart as the page needs it."""
    drawing = draw_svg(chart)
    return {
        "key": chart.key,
        "title": chart.title,
        "words": in_words(chart),
        "svg": Markup(drawing.svg),  # Matplotlib escapes the texts in it
        "marks": drawing.marks,
        "legend": chart.legend,
    }


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _there(found: Sequence[Any]) -> list[Any]:
    return [one for one in found if one is not None]


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text.encode("utf-8", "backslashreplace").decode())  # a folder's name may be any bytes
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _write_pngs(folder: Path, charts: Sequence[Chart]) -> None:
    try:
        for chart in charts:
            draw_png(chart, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
