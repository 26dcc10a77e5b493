"""``python -m jaxpg.report``: what runs left, on one page."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxpg.report as report_module
from jaxpg.learners.random_search import RandomSearchConfig
from jaxpg.scores.intervals import mean_interval
from jaxpg.viewing import charts
from jaxpg.viewing.charts import LIGHT, Chart, Series, draw_file, draw_svg, in_words
from jaxpg.viewing.views import (
    evaluation_chart,
    games_chart,
    learning_charts,
    phase_microseconds,
    signal_charts,
    thin,
    trace_charts,
)
from tests.report_runs import TRACE, Page, colors_of, evaluated, filmed, logs, made_run, report
from tests.runs import nobody_reads_stdout, records


def test_one_page_has_all_of_a_run_and_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0, 3.5])
    evaluated(folder, [1.0, 2.0, 6.0])
    filmed(folder)
    out = tmp_path / "page.html"
    report(folder, "--out", out)
    page = Page(out)
    keys = [figure["id"] for figure in page.all("figure")]
    first, last = ["return_steps", "return_time", "games_0", "evaluations"], ["time", "signal_entropy"]
    assert keys == [*first, "video_0_returns", "video_0_chances", *last], "kl says nothing: it is 0 to rounding"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    described = [tag for tag in page.all("div") if tag.get("role") == "img"]
    assert len(described) == len(keys)
    assert all(len(tag["aria-label"]) > 30 for tag in described)
    [video] = page.all("video")
    assert video["src"].startswith("data:video/mp4;base64,")
    assert "controls" in video
    loads = [a[k] for _, a in page.tags for k in ("src", "href", "xlink:href", "data", "action") if k in a]
    assert all(x.startswith(("data:", "#")) for x in loads), "nothing is loaded"
    assert not re.search(r"(?i)url\((?!#)|@import", out.read_text())
    assert "3 [-3.572, 9.572]" in page.text
    assert capsys.readouterr().out.startswith(f"jaxpg: 8 charts and 1 video of 1 run in {out}\n")


def test_a_curve_is_drawn_where_its_numbers_are(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0, 4.0])
    chart, by_time = learning_charts(logs(folder))
    line = chart.series[0]
    assert (line.x.tolist(), line.y.tolist()) == ([2000.0, 3000.0, 4000.0], [1.0, 2.0, 4.0])
    assert by_time.series[0].x.tolist() == [2.0, 3.0, 4.0]
    drawing = draw_svg(chart)
    x, y, words = zip(*drawing.marks, strict=True)
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.2)
    assert y[1] - y[2] == pytest.approx(2 * (y[0] - y[1]), abs=0.3), "up is more"
    assert words[2] == "mine: 4 at 4,000 agent steps"
    path = re.search(r'<g id="return_steps-line2d_\d+">\s*<path d="([^"]*)"[^>]*var\(--s0\)', drawing.svg)
    corners = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path[1]), float)
    assert np.allclose(corners, np.column_stack([x, y]), atol=0.06), "the ring stands on the line"
    assert "from 1 at 2,000 to 4 at 4,000 agent steps, between 1 and 4" in in_words(chart)
    target = chart.series[1]
    assert (target.kind, target.name, target.y[0]) == ("level", "target 18", 18.0)


def test_seeds_become_a_mean_with_its_interval_as_far_as_all_go(tmp_path: Path) -> None:
    folders = [
        made_run(tmp_path / "a", returns=[0.0, 2.0, 4.0], seed=1),
        made_run(tmp_path / "b", returns=[2.0, 4.0], seed=2),
        made_run(tmp_path / "c", returns=[9.0, 9.0, 9.0], seed=1, run={"budget_agent_steps": 5}),
        made_run(tmp_path / "d", returns=[4.0, 9.0, 9.0], seed=3),
    ]
    runs = logs(*folders)
    assert [(run.color, run.dash, run.group) for run in runs] == [
        (0, 0, "Pong reinforce, seeds 1, 2, 3"),
        (0, 1, "Pong reinforce, seeds 1, 2, 3"),
        (1, 0, "c"),
        (0, 2, "Pong reinforce, seeds 1, 2, 3"),
    ]
    series = [one for one in learning_charts(runs)[0].series if one.kind == "line"]
    assert [(one.name, one.faint) for one in series] == [
        ("a", True),
        ("b", True),
        ("d", True),
        ("Pong reinforce, seeds 1, 2, 3: mean, 95 % interval", False),
        ("c", False),
    ]
    mean = series[3]
    assert (mean.x[0], mean.x[-1]) == (2000.0, 3000.0), "b ends there"
    assert (mean.y[0], mean.y[-1]) == (2.0, 5.0)
    assert (mean.low[0], mean.high[0]) == mean_interval(np.array([0.0, 2.0, 4.0]))
    assert (mean.low[0], mean.high[0]) == pytest.approx((2 - 4.9683, 2 + 4.9683), abs=1e-3), "Student's"
    two = [one for one in learning_charts(logs(*folders[:2]))[0].series if one.kind == "line"][-1]
    assert (two.name, two.low) == ("Pong reinforce, seeds 1, 2: mean", None), "too few for a band"


def test_every_candidate_is_shown_with_what_it_did_when_it_played_again(tmp_path: Path) -> None:
    search = {"run": {"learner": "random_search"}, "random_search": RandomSearchConfig(episodes_per_candidate=1)}
    folder = made_run(tmp_path / "search", returns=[5.0, 6.0, 7.0, 1.0, 3.0], **search)
    chart = games_chart(logs(folder)[0], 0)
    first, fresh = chart.series
    assert (first.x.tolist(), first.y.tolist()) == ([0.0, 1.0, 2.0], [7.0, 5.0, 6.0])
    assert (fresh.x.tolist(), fresh.y.tolist()) == ([1.0, 2.0], [1.0, 3.0])
    assert chart.key == "candidates_0"
    assert chart.legend == [("return in the search", 0), ("mean of the finalist's fresh games", 1)]
    plain = games_chart(logs(made_run(tmp_path / "plain", returns=[5.0, 6.0]))[0], 3)
    assert (plain.key, plain.series[0].y.tolist()) == ("games_3", [5.0, 6.0])


def test_each_evaluation_is_a_row_with_its_interval(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0])
    evaluations = [evaluated(folder, [1.0, 2.0, 6.0]), evaluated(folder, [4.0, 4.0], checkpoint=9)]
    evaluated(folder, [4.0] * 3, checkpoint=9, games=np.array([5, 5, 5]), cut=1)
    chart = evaluation_chart(logs(folder))
    assert chart.rows == (
        "mine: checkpoint 7, sampled, 3 games",
        "mine: checkpoint 9, sampled, 2 games",
        "mine: checkpoint 9, sampled, 3 games (1 different, 1 cut)",
    )
    means = [one for one in chart.series if one.kind == "interval"]
    assert [(m.x[0], m.low[0], m.high[0], m.y[0]) for m in means] == [
        (e.mean, e.mean_low, e.mean_high, row) for row, e in enumerate(evaluations)
    ]
    dots = [one for one in chart.series if one.kind == "dots"]
    assert dots[0].x.tolist() == [1.0, 2.0, 6.0]
    assert (dots[3].x.tolist(), dots[3].label) == ([4.0], "mean without an interval")
    assert np.abs(dots[1].y - 1).max() < 0.3, "in their own row"


def test_time_is_of_the_settled_run(tmp_path: Path) -> None:
    runs = logs(made_run(tmp_path / "mine", returns=[1.0] * 40))
    lines = runs[0].log.records
    lines[0]["emulate_seconds"] = 100.0  # compilation
    phases = phase_microseconds(lines)
    assert phases == pytest.approx({"emulate": 500, "act": 300, "learn": 150, "other": 50})
    assert phase_microseconds([]) == {}
    assert sum(phase_microseconds(lines[:1]).values()) == pytest.approx(100_500)


def test_the_learners_own_numbers_are_means_of_neighbours(tmp_path: Path) -> None:
    [chart] = signal_charts(logs(made_run(tmp_path / "mine", returns=[1.0] * 9)))
    assert (chart.key, chart.title) == ("signal_entropy", "entropy")
    assert chart.series[0].y.mean() == pytest.approx(0.7 - 0.1 * 4.5)


def test_a_recorded_game_is_shown_along_its_steps() -> None:
    credit, chances = trace_charts(TRACE["games"][0], TRACE["action_names"], "v")
    curve, rewards = credit.series
    assert curve.y.tolist() == [-0.9, -0.95, -1.0, -2.0]
    assert (rewards.x.tolist(), rewards.y.tolist()) == ([2.0, 3.0], [1.0, -2.0]), "only where there is one"
    assert [one.name for one in chances.series] == ["up"], "down is the rest"
    assert chances.series[0].y.tolist() == [0.5, 0.75, 0.9, 0.2]
    game = {**TRACE["games"][0], "values": [1.0, 2.0, 3.0, 4.0], "probabilities": [[0.1] * 5 + [0.25, 0.25]] * 4}
    credit, chances = trace_charts(game, list("abcdefg"), "v")
    assert credit.series[1].y.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert [one.name for one in chances.series] == ["a", "b", "f", "g"]


def test_thinning_keeps_the_ends() -> None:
    x, y = thin(np.arange(1000.0), np.arange(1000.0) ** 2, 7)
    assert x.size == 7
    assert (x[0], x[-1]) == (0, 999)
    assert np.array_equal(y, x**2)


def test_settings_that_differ_stand_side_by_side(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / str(seed), returns=[1.0], seed=seed) for seed in (1, 2)]
    out = tmp_path / "page.html"
    report(*folders, "--out", out)
    text = Page(out).text
    assert "Settings that differ between the runs setting 1 2 run.seed 1 2 All settings of 1" in text


def test_a_report_without_readers_and_of_a_folder_with_an_odd_name_is_whole(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "B\udce4r", returns=[])
    (filmed := folder / "videos").mkdir()
    (filmed / "7.mp4").write_bytes(b"gone")
    out = tmp_path / "page.html"
    with nobody_reads_stdout(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", _taken_away(Path.read_bytes))
        report(folder, "--out", out)
    assert "B\\udce4r" in Page(out).text
    assert "7.mp4 cannot be read: No such file or directory" in Page(out).text
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "page.html"}


def _taken_away(read_bytes):
    """Reading a video fails, because it has been taken away."""

    def read(path: Path) -> bytes:
        if path.suffix == ".mp4":
            raise FileNotFoundError(2, "No such file or directory")
        return read_bytes(path)

    return read


def test_a_run_that_has_just_begun_is_shown_as_far_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = made_run(tmp_path / "new", returns=[])
    for name in ("metrics.jsonl", "episodes.csv"):
        (folder / name).unlink()
    (folder / "checkpoints").rmdir()
    out = tmp_path / "page.html"
    report(folder, "--out", out, "--png", tmp_path / "png")
    assert "new: no metrics.jsonl yet" in capsys.readouterr().out
    assert "not yet, or interrupted" in Page(out).text
    made_run(tmp_path / "first", returns=[])
    report(tmp_path / "first", "--out", out)
    assert [figure["id"] for figure in Page(out).all("figure")] == ["time", "signal_entropy"], "no game has ended"


def test_nothing_in_a_real_runs_folder_changes(uninterrupted: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    out = tmp_path / "page.html"
    report(uninterrupted, "--out", out)
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before
    text = Page(out).text
    last = records(uninterrupted)[-1]
    assert f"{last['agent_steps']:,}" in text
    assert "budget of agent steps used" in text
    assert f"{uninterrupted.name}: 15" in text, "a checkpoint"


def test_the_same_charts_become_files(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0, 3.5])
    filmed(folder)
    out = tmp_path / "page.html"
    report(folder, "--out", out, "--png", tmp_path / "png", "--pdf", tmp_path / "pdf")
    files = sorted((tmp_path / "png").iterdir())
    assert {path.stem for path in files} == {figure["id"] for figure in Page(out).all("figure")}
    for path in files:
        picture = colors_of(path)
        assert picture.shape[1] == 4.8 * charts.PNG_DOTS_PER_INCH
        assert (picture[0] == 255).all(), "white paper"
        colorful = np.ptp(picture.astype(int), axis=-1) > 40
        assert colorful.sum() > 20, f"{path.stem} shows something"
    assert sorted(path.name for path in (tmp_path / "pdf").iterdir()) == [f"{path.stem}.pdf" for path in files]


def test_a_chart_for_a_paper_has_lines_and_fonts_that_publishers_take(tmp_path: Path) -> None:
    line = Series("one", "line", np.arange(3.0), np.arange(3.0), low=np.arange(3.0) - 1, high=np.arange(3.0) + 1)
    chart = Chart("curve", "", "agent steps", "return", (line,))
    once, again = (draw_file(chart, tmp_path, "pdf").read_bytes() for _ in range(2))
    assert once == again
    assert once.startswith(b"%PDF")
    assert b"/Type3" not in once
    assert b"/Type0" in once, "text is text"
    assert b"/Subtype /Image" not in once, "lines are no dots"


def test_a_picture_with_several_names_has_a_legend(tmp_path: Path) -> None:
    line = Series("one", "line", np.arange(3.0), np.arange(3.0))
    one, two = (
        Chart(key, "", "", "", series) for key, series in (("1", (line,)), ("2", (line, line._replace(name="b"))))
    )
    low, high = (len(colors_of(draw_file(chart, tmp_path, "png"))) for chart in (one, two))
    assert high > low


def test_a_file_says_by_itself_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (figures.append(self), Path(path).touch()))
    line = Series("seed 1", "line", np.arange(3.0), np.arange(3.0), faint=True)
    target = Series("target 18", "level", np.zeros(1), np.full(1, 18.0), faint=True)
    chart = Chart("curve", "Two seeds", "", "", (line, line._replace(name="seed 2", dash=1), target))
    assert chart.legend == [], "on the page a table says so"
    for kind in ("png", "pdf"):
        draw_file(chart, tmp_path, kind)
    for figure in figures:
        (legend,), (axes,) = figure.legends, figure.axes
        assert [text.get_text() for text in legend.get_texts()] == ["seed 1", "seed 2"]
        assert [text.get_text() for text in axes.texts] == ["target 18"]
    assert [figure.axes[0].get_title(loc="left") for figure in figures] == ["Two seeds", ""]


def test_the_page_has_the_colours_of_the_charts() -> None:
    style = (Path(charts.__file__).parent / "page" / "page.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for i, color in enumerate(LIGHT):
        assert f"--s{i}: {color};" in light
        assert f"--s{i}: " in dark
        assert f"--s{i}: {color};" not in dark


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "which runs? give a folder or more, such as runs/mine"),
        (("nowhere",), "nowhere: no run: there is no such folder"),
        (("file", "folder.html"), "file: no run: it has no config.yaml; folder.html: no run: it has no config.yaml"),
        (("RUN", "RNU"), "RNU: no run: there is no such folder; did you mean 'RUN'?"),
        (("RUN", "RNU", "--serve"), "RNU: no run: there is no such folder; did you mean 'RUN'?"),
        (("RUN", "--out", "folder.html"), "folder.html: cannot be written: a folder has this name"),
        (("RUN", "--out", "page.pdf"), "out: the name of a page ends with .html, unlike 'page.pdf'"),
        (("RUN", "--out", "file/page.html"), "file/page.html: cannot be written"),
        (("RUN", "--png", "file"), "file: cannot be written"),
        (("RUN", "--pgn", "x"), "unknown flag --pgn; did you mean '--png'?"),
        (("--serve",), "which runs? give a folder or more, such as runs/mine"),
        (("nowhere", "--serve"), "nowhere: no run: there is no such folder"),
        (("RUN", "--serve", "--out", "x.html"), "--serve writes no files; leave out --out, --png and --pdf"),
        (("RUN", "--port", "80"), "--host and --port belong to --serve"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, argv: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "RUN", returns=[1.0])
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    monkeypatch.setattr(report_module, "read_run", None)  # all is noticed before a run is read
    report(*argv, code=2)
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("jaxpg: ")
    assert said.count("\n") == 1
