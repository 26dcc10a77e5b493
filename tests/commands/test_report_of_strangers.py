"""A report of files that a stranger wrote, or that are damaged, and of what is no run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxpg.viewing import charts
from jaxpg.viewing.run_log import read_run
from tests.report_runs import TRACE, Page, evaluated, filmed, made_run, report


def test_what_others_wrote_is_text(tmp_path: Path) -> None:
    name = '<script>alert("1")<img src=x onerror=alert(1)> $\\frac'
    folder = made_run(tmp_path / name, returns=[1.0, 2.0])
    evaluated(folder, [1.0])
    trace = {**TRACE, "action_names": ["</script><script>", "$x"]}
    filmed(folder, trace=trace)
    (folder / "summary.json").write_text(json.dumps({"ended": "<b onclick=x>"}))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    odd = {'"><a href=x><b onclick=x>': 1.0, "../../x": 2.0, "$\\frac{\\1": 3.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record | odd) + "\n" for record in records))
    out = tmp_path / "page.html"
    report(folder, folder, "--out", out, "--png", tmp_path / "png")
    page = Page(out)
    scripts = page.all("script")
    assert [s for s in scripts if s.get("type") != "application/json"] == [{}], "only the page's own"
    assert not page.all("img")
    assert not page.all("b")
    assert not [attributes for _, attributes in page.tags if any(key.startswith("on") for key in attributes)]
    assert page.text.count(name) > 4
    assert "<b onclick=x>" in page.text
    assert f"{name} (2)" in page.text, "a name of its own"
    assert '"><a href=x><b onclick=x>' in page.text, "a metric's name, too, which is part of an id and of a file's name"
    assert not page.all("a")
    keys = {figure["id"] for figure in page.all("figure")}
    assert keys == {path.stem for path in (tmp_path / "png").iterdir()}
    assert all(re.fullmatch(r"\w+", key) for key in keys)


def test_a_page_has_a_bounded_number_of_charts_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxpg.viewing.report_page.MOST_CHARTS", 2)
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0])
    out = tmp_path / "page.html"
    report(folder, "--out", out, "--png", tmp_path / "png")
    page = Page(out)
    assert [figure["id"] for figure in page.all("figure")] == ["return_steps", "return_time"]
    assert "2 of 5 charts are drawn" in page.text
    assert len(list((tmp_path / "png").iterdir())) == 2


def test_how_charts_look_is_not_the_business_of_a_file_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matplotlib reads ``matplotlibrc`` in the working folder; with LaTeX in it, a chart would start programs."""
    import matplotlib as mpl

    chart = charts.Chart("x", "x", "x", "y", (charts.Series("x", "line", np.arange(3.0), np.arange(3.0)),))
    wanted = charts.draw_svg(chart)
    with mpl.rc_context({"text.usetex": True, "lines.linewidth": 9, "axes.titlesize": 40, "font.family": "serif"}):
        assert charts.draw_svg(chart) == wanted


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0])
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    filmed(folder, "7", trace={**TRACE, "games": [{}]})
    filmed(folder, "6", trace={**TRACE, "action_names": ["\udce4", "DOWN"]})
    (folder / "videos" / "8.mp4").symlink_to(secret)
    (folder / "videos" / ".9.unfinished.mp4").write_bytes(b"half")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "agent\nnull\n[1]\n{"iteration": "4"}\n{"iteration": 5, "agent_st')
    with (folder / "episodes.csv").open("a") as file:
        file.write("1,2\n4000,4,0,0,nan,1\n5000,5,0,")
    (folder / "evaluation.json").write_text('[{"mean": "<b>"}]')
    (folder / "summary.json").write_text("[]")
    (folder / "checkpoints" / "4").mkdir()
    out = tmp_path / "page.html"
    report(folder, "--out", out)
    log = read_run(str(folder))
    assert [record["iteration"] for record in log.records] == [1, 2, 3]
    assert [game.episode_return for game in log.games] == [1.0, 2.0]
    said = capsys.readouterr().out
    for remark in (
        "metrics.jsonl: 4 damaged lines are left out",
        "episodes.csv: 2 damaged lines are left out",
        "evaluation.json: damaged",
        "summary.json is damaged and left out",
        "8.mp4 is not a regular file and left out",
        "6.json is damaged and left out",
        "7.json is damaged and left out",
        "checkpoints/4: the checkpoint is damaged",
        "no checkpoint yet",
    ):
        assert remark in said
        assert remark in Page(out).text
    assert len(Page(out).all("video")) == 2


def test_what_is_no_run_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """As in ``report runs/*``: charts, a file, and a run whose configuration is damaged."""
    made_run(tmp_path / "mine", returns=[1.0, 2.0])
    (tmp_path / "charts").mkdir()
    (tmp_path / "notes.txt").touch()
    (made_run(tmp_path / "odd", returns=[1.0]) / "config.yaml").write_text("env: [\n")
    out = tmp_path / "page.html"
    report(*sorted(tmp_path.iterdir()), "--out", out)
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(f"of 1 run in {out}")
    left_out = [line for line in said if line.startswith("jaxpg: left out: ")]
    assert [line.split(": ")[2] for line in left_out] == [
        str(tmp_path / "charts"),
        str(tmp_path / "notes.txt"),
        f"{tmp_path / 'odd' / 'config.yaml'}:2:1",
    ]
    assert "no run: it has no config.yaml" in left_out[0]


def test_a_page_needs_no_code_that_the_run_names_but_that_of_its_learner(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ran, mine = tmp_path / "ran", tmp_path / "mine.py"
    mine.write_text(f"open({str(ran)!r}, 'w')")
    folder = made_run(tmp_path / "theirs", returns=[1.0, 2.0], imports=(str(mine),))
    report(folder, "--out", tmp_path / "page.html")
    assert "theirs" in Page(tmp_path / "page.html").text
    assert not ran.exists()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("learner: reinforce", "learner: mine"))
    report(folder, "--out", tmp_path / "other.html", code=2)
    assert f"it imports {mine}, which would run that code" in capsys.readouterr().err
    assert not ran.exists()
