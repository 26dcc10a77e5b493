"""Composes the page of a report: sections, charts and videos in one HTML file."""

import base64
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from jaxpg import __version__
from jaxpg.config import dump
from jaxpg.core.errors import UserError
from jaxpg.machine.durable_files import write_text
from jaxpg.viewing.charts import Chart, Format, draw_file, draw_svg, in_words, short
from jaxpg.viewing.tables import Table, checkpoints_table, runs_table, settings_table, time_table
from jaxpg.viewing.views import (
    Run,
    evaluation_chart,
    games_chart,
    learning_charts,
    signal_charts,
    time_chart,
    trace_charts,
)

PAGE = Path(__file__).parent / "page"
MOST_CHARTS = 300
"""Most charts that are drawn, each of which takes a tenth of a second."""


class Section(NamedTuple):
    """A part of the page with charts and tables."""

    title: str
    note: str
    """Explanation under the title; may be empty."""
    charts: list[Chart]
    tables: list[Table]
    is_detail: bool = False
    """Whether the section comes after the videos."""


class VideoCard(NamedTuple):
    """A video on the page, with the charts of its first game."""

    title: str
    content: bytes
    """The MP4 file."""
    charts: list[Chart]


def sections_of(runs: Sequence[Run]) -> list[Section]:
    """Makes the sections of the page and leaves out empty ones."""
    games = [games_chart(run, i) for i, run in enumerate(runs)]
    sections = [
        Section(
            "How it learned",
            "Unclipped scores of whole games in training, at the time when each game ended. Where runs differ only by "
            "the seed, their mean is drawn as far as all of them go; three seeds or more have Student's 95 % interval.",
            [*learning_charts(runs), *_there(games)],
            [],
        ),
        Section(
            "How good it is",
            "Whole games played after training (jaxpg evaluate); every game that was begun counts. The "
            "interval of the mean is Student's t, corrected for skewness; it counts equal games as one.",
            _there([evaluation_chart(runs)]),
            _there([checkpoints_table(runs)]),
        ),
        Section("Where the time went", "", _there([time_chart(runs)]), _there([time_table(runs)]), True),
        Section("The learner's own numbers", "Means of neighbouring iterations.", signal_charts(runs), [], True),
    ]
    return [section for section in sections if section.charts or section.tables]


def videos_of(runs: Sequence[Run]) -> list[VideoCard]:
    """Reads every video of the runs and, where the video has a trace, makes the charts of its first game."""
    cards = []
    for run in runs:
        for video in run.log.videos:
            name, trace = f"{run.name}: {video.path.stem}", video.trace
            try:
                content = video.path.read_bytes()
            except OSError as error:  # the video was removed after the folder was read
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


def page_of(runs: Sequence[Run], sections: Sequence[Section], videos: Sequence[VideoCard]) -> str:
    """Makes the page as HTML. The page contains everything it shows and loads nothing from elsewhere."""
    games = sorted({run.log.config.env.game for run in runs})
    return render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs of {', '.join(games)}",
        overview=runs_table(runs),
        remarks=[(run.name, remark) for run in runs for remark in run.log.remarks],
        sections=sections,
        videos=videos,
        differences=settings_table(runs),
        configs=[(run.name, dump(run.log.config, run.log.history)) for run in runs],
    )


def render(
    *,
    title: str,
    overview: Table,
    sections: Sequence[Section],
    remarks: Sequence[tuple[str, str]] = (),
    videos: Sequence[VideoCard] = (),
    differences: Table | None = None,
    configs: Sequence[tuple[str, str]] = (),
) -> str:
    """Makes a page as HTML from its parts.

    Args:
      title: the title of the page.
      overview: the first table.
      sections: charts and tables.
      remarks: names and sentences about them, under the first table.
      videos: the videos.
      differences: the table of settings.
      configs: names and settings as YAML.
    """
    script, style = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    drawn = _first_charts(sections)
    number = sum(len(section.charts) for section in sections)
    if number > MOST_CHARTS:
        remarks = [*remarks, ("this page", f"{MOST_CHARTS} of {number} charts are drawn")]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        made=time.strftime("%Y-%m-%d %H:%M"),
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        overview=overview,
        remarks=remarks,
        sections=[
            {**section._asdict(), "charts": [_drawn(chart) for chart in charts]}
            for section, charts in zip(sections, drawn, strict=True)
        ],
        videos=[
            {
                "title": card.title,
                "charts": [_drawn(chart) for chart in card.charts],
                "content": base64.b64encode(card.content).decode(),
            }
            for card in videos
        ],
        differences=differences,
        configs=configs,
    )


def _first_charts(sections: Sequence[Section]) -> list[list[Chart]]:
    """The charts of each section, the first ones of the page where there are too many."""
    left, first = MOST_CHARTS, []
    for section in sections:
        first.append(section.charts[:left])
        left -= len(first[-1])
    return first


def _drawn(chart: Chart) -> dict[str, Any]:
    """Draws a chart and returns what the page's template shows of it."""
    drawing = draw_svg(chart)
    return {
        "key": chart.key,
        "title": chart.title,
        "words": in_words(chart),
        "svg": Markup(drawing.svg),  # Matplotlib escapes the texts in it
        "marks": drawing.marks,
        "legend": chart.legend,
    }


def count(things: Sequence[Any], name: str) -> str:
    """Says in words how many things there are.

    >>> count([1, 2], "chart"), count([1], "run")
    ('2 charts', '1 run')
    """
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _there(found: Sequence[Any]) -> list[Any]:
    return [one for one in found if one is not None]


def write_page(path: Path, text: str) -> None:
    """Writes the page; raises UserError where it cannot be written."""
    try:
        write_text(path, text.encode("utf-8", "backslashreplace").decode())  # the name of a folder may be any bytes
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def write_charts(folder: Path, charts: Sequence[Chart], kind: Format) -> None:
    """Writes each chart as a file into ``folder``; raises UserError where one cannot be written."""
    try:
        for chart in charts[:MOST_CHARTS]:
            draw_file(chart, folder, kind)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
