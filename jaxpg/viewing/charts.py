"""Charts as data, and their drawing with Matplotlib: SVG for a page in light or dark mode, PNG and PDF for papers."""

import io
import os
import re
import secrets
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jaxpg.core.errors import printable

LIGHT = ("#2563c9", "#c8501e", "#1b8a5a", "#8a4fc4", "#b0317a", "#7a6a00", "#0d8599", "#5f6670")
"""Colours of the series on white. In dark mode, the page's style sheet replaces each by a lighter one."""
INK, MUTED, GRID = "#1d2024", "#666b73", "#dfe2e6"
DASHES = ("-", "--", ":", "-.")
WIDTH_INCHES, HEIGHT_INCHES, ROW_INCHES = 4.8, 3.0, 0.5
LONGEST_ROW_NAME = 62
LONGEST_TITLE_LINE = 70
PNG_DOTS_PER_INCH = 220
STYLE: Any = {
    "font.size": 10,
    "text.parse_math": False,  # the name of a run may contain dollar signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "svg.fonttype": "none",  # text stays text and takes the page's font
    "svg.hashsalt": "jaxpg",
    "pdf.fonttype": 42,  # TrueType, because publishers refuse Type 3
}

Format = Literal["png", "pdf"]
"""Kind of file of a chart: dots, or lines and text that stay sharp at any size."""


class Series(NamedTuple):
    """One data series of a chart. Arrays are ``f64[K]``."""

    name: str
    kind: Literal["line", "dots", "interval", "bars", "level"]
    """How the series is drawn.

    ``line``: a line. ``dots``: single dots. ``interval``: from ``low`` to ``high`` along x, with a dot at ``x``.
    ``bars``: from ``low`` to ``x``. ``level``: a line across the whole chart at ``y``.
    """
    x: np.ndarray
    y: np.ndarray
    color: int = 0
    """Number of the colour. A run has the same number in every chart of a page."""
    low: np.ndarray | None = None
    """Lower end: of a line's band along y, or of intervals and bars along x."""
    high: np.ndarray | None = None
    """Upper end: of a line's band along y, or of intervals along x."""
    faint: bool = False
    """Whether the series is drawn in the background. Then the legend leaves it out unless it has a ``label``."""
    label: str = ""
    """Text of the legend, which names series with the same label only once; empty for ``name``."""
    dash: int = 0
    """Number of a line's dash pattern, which distinguishes lines of one colour."""

    @property
    def in_legend(self) -> bool:
        """Whether the legend names the series. Intervals are named beside their rows."""
        return self.kind != "interval" and (bool(self.label) or not self.faint)


class Chart(NamedTuple):
    """The data and texts of a chart, without a drawing."""

    key: str
    """Name of the chart in the page, and of its file."""
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    rows: tuple[str, ...] = ()
    """Names of the rows from top to bottom, where y is the number of a row; else empty."""

    @property
    def legend(self) -> list[tuple[str, int]]:
        """Names and colours of the series in the legend."""
        return list({one.label or one.name: one.color for one in self.series if one.in_legend}.items())

    @property
    def size_inches(self) -> tuple[float, float]:
        """Width and height of the drawing."""
        return WIDTH_INCHES, max(HEIGHT_INCHES, 0.8 + ROW_INCHES * len(self.rows))


class Drawing(NamedTuple):
    """A chart drawn for a page."""

    svg: str
    marks: list[tuple[float, float, str]]
    """Points that show a text under the mouse: x and y in the coordinates of the SVG, and the text."""


@contextmanager
def _style() -> Iterator[None]:
    """Sets how Matplotlib draws. A ``matplotlibrc`` of the user or of the working folder has no say in it."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def draw_svg(chart: Chart) -> Drawing:
    """Draws a chart for a page, whose style sheet has the colours ``--ink``, ``--muted``, ``--grid`` and ``--s0``."""
    with _style():
        figure, axes = _draw(chart)
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_visible(False)  # the background is the page's
        axes.patch.set_visible(False)
        text = io.StringIO()
        canvas.print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        marks = _marks(chart, axes)
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1 aria-hidden='true'>", svg, count=1)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{chart.key}-", svg)  # ids must differ between the page's drawings
    svg = svg.replace("'DejaVu Sans', 'Bitstream Vera Sans'", "inherit")
    for color, variable in {
        INK: "ink",
        MUTED: "muted",
        GRID: "grid",
        **{c: f"s{i}" for i, c in enumerate(LIGHT)},
    }.items():
        svg = svg.replace(color, f"var(--{variable})")
    return Drawing(svg, marks)


def draw_file(chart: Chart, folder: Path, kind: Format) -> Path:
    """Draws a chart as a file into ``folder`` and returns the file's path.

    The legend names every line, because a file has no page around it that would say what the lines are. A PNG has the
    chart's title, too; a PDF has none, because a figure of a paper has a caption. The same chart always makes the same
    bytes: the file names neither its maker nor a date.
    """
    path = folder / f"{chart.key}.{kind}"
    metadata = {"png": ("Software",), "pdf": ("Creator", "Producer", "CreationDate")}[kind]
    with _style():
        figure, axes = _draw(chart, with_faint_lines=True)
        if kind == "png":
            axes.set_title(textwrap.fill(printable(chart.title), LONGEST_TITLE_LINE), fontsize=9, loc="left")
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower left", frameon=False, ncols=1, fontsize=8)
            figure.set_size_inches(chart.size_inches[0], chart.size_inches[1] + 0.2 * len(labels))
        unfinished = folder / f".{secrets.token_hex(8)}.{kind}"
        try:
            figure.savefig(unfinished, dpi=PNG_DOTS_PER_INCH, metadata=dict.fromkeys(metadata))
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _draw(chart: Chart, *, with_faint_lines: bool = False) -> tuple[Figure, Any]:
    """Draws a chart, and labels what its legend names; with ``with_faint_lines`` those in the background, too."""
    figure = Figure(figsize=chart.size_inches, layout="constrained")
    axes = figure.add_subplot()
    named: set[str] = set()
    for one in chart.series:
        label = one.label or one.name
        is_named = one.in_legend or (with_faint_lines and one.kind == "line")
        new = is_named and label not in named
        _draw_series(axes, one, printable(label) if new else None)
        named |= {label} if new else set()
    axes.set(xlabel=printable(chart.x_label), ylabel=printable(chart.y_label))
    if chart.rows:
        axes.set(yticks=[], ylim=(len(chart.rows) - 0.5, -0.75))
        for row, name in enumerate(chart.rows):
            axes.text(0.01, row - 0.37, _shorten(name), transform=axes.get_yaxis_transform(), fontsize=9)
    return figure, axes


def _draw_series(axes: Any, one: Series, label: str | None) -> None:
    color, dash = LIGHT[one.color % len(LIGHT)], DASHES[one.dash % len(DASHES)]
    match one.kind:
        case "line":
            width, opacity = (0.8, 0.45) if one.faint else (1.8, 1.0)
            axes.plot(one.x, one.y, dash, color=color, linewidth=width, alpha=opacity, label=label)
            if one.low is not None and one.high is not None:
                axes.fill_between(one.x, one.low, one.high, color=color, alpha=0.18, linewidth=0)
        case "dots":
            size, opacity = (6, 0.35) if one.faint else (14, 0.8)
            axes.scatter(one.x, one.y, s=size, color=color, alpha=opacity, linewidths=0, label=label)
        case "interval":
            # lists, because Matplotlib takes the first of them for a number where it is an array of one
            error = [(one.x - one.low).tolist(), (one.high - one.x).tolist()]
            axes.errorbar(
                one.x, one.y, xerr=error, fmt="o", color=color, markersize=6, capsize=4, linewidth=2, label=label
            )
        case "bars":
            assert one.low is not None, "a bar begins somewhere"
            axes.barh(one.y, one.x - one.low, left=one.low, height=0.5, color=color, label=label)
        case "level":
            axes.axhline(one.y[0], color=color, linewidth=1, linestyle=(0, (4, 3)), label=label)
            place = axes.get_yaxis_transform()
            axes.text(
                0.99, one.y[0], printable(one.name), color=MUTED, fontsize=8, ha="right", va="bottom", transform=place
            )


def _marks(chart: Chart, axes: Any) -> list[tuple[float, float, str]]:
    """Computes the marks of a chart that has been drawn, because only then its layout is final."""
    height = chart.size_inches[1] * 72
    to_points = axes.transData + axes.figure.dpi_scale_trans.inverted()
    marks = []
    for one in chart.series:
        if one.kind == "level":
            continue
        middle = one.x if one.low is None or one.kind != "bars" else (one.x + one.low) / 2
        where = to_points.transform(np.column_stack([middle, one.y])) * 72
        for i, (x, y) in enumerate(where):
            marks.append((round(float(x), 1), round(height - float(y), 1), _say(chart, one, i)))
    return marks


def _say(chart: Chart, one: Series, i: int) -> str:
    match one.kind:
        case "interval":
            assert one.low is not None, "an interval has two ends"
            assert one.high is not None, "an interval has two ends"
            return f"{one.name}: {short(one.x[i])} [{short(one.low[i])}, {short(one.high[i])}]"
        case "bars":
            assert one.low is not None, "a bar begins somewhere"
            return f"{one.name}: {short(one.x[i] - one.low[i])} {chart.x_label}"
    if chart.rows:
        return f"{one.name}: {short(one.x[i])}"
    band = "" if one.low is None or one.high is None else f" [{short(one.low[i])}, {short(one.high[i])}]"
    return f"{one.name}: {short(one.y[i])}{band} at {short(one.x[i])} {chart.x_label}"


def in_words(chart: Chart) -> str:
    """Describes in words what the chart shows, for screen readers."""
    front = [one for one in chart.series if not one.faint] or chart.series
    return f"{chart.title}. " + " ".join(_one_in_words(chart, one) for one in front)


def _one_in_words(chart: Chart, one: Series) -> str:
    if not one.x.size:
        return f"{one.name}: nothing."
    if one.kind in ("interval", "bars"):
        return f"{_say(chart, one, 0)}."
    low, high = int(np.argmin(one.y)), int(np.argmax(one.y))
    ends = f"from {short(one.y[0])} at {short(one.x[0])} to {short(one.y[-1])} at {short(one.x[-1])} {chart.x_label}"
    return f"{one.name}: {ends}, between {short(one.y[low])} and {short(one.y[high])}."


def _shorten(name: str) -> str:
    """Leaves out the middle of a long name, because the names of runs often differ at the end."""
    half = LONGEST_ROW_NAME // 2
    name = printable(name)
    return name if len(name) <= LONGEST_ROW_NAME else f"{name[:half]}…{name[-half:]}"


def short(value: float) -> str:
    """Formats a number with about four digits and with separators between thousands.

    >>> short(1234.56), short(0.123456), short(-20.0)
    ('1,235', '0.1235', '-20')
    """
    if value == 0 or 1e-4 <= abs(value) < 1e12:
        digits = max(0, 3 - int(np.floor(np.log10(abs(value))))) if value else 0
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3g}"
