"""The page of a suite."""

from pathlib import Path

import pytest

from jaxpg.report import main
from jaxpg.scores.suite_file import SuiteResults, write_suite
from tests.report_runs import Page
from tests.suite_rows import made_rows


def _report(*argv: str | Path, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert end.value.code == code


def test_the_report_of_a_suite_shows_scores_and_curves_and_who_failed(tmp_path: Path) -> None:
    write_suite(tmp_path / "suite.json", SuiteResults(episodes=5, checkpoint="latest", rows=made_rows()))
    _report(tmp_path, "--out", tmp_path / "page.html", "--png", tmp_path / "charts")
    page = Page(tmp_path / "page.html")
    assert [figure["id"] for figure in page.all("figure")] == ["profile_sampled", *(f"learning_{i}" for i in range(3))]
    assert "failed: a | weight became NaN" in page.text
    assert "Human-normalised scores, sampled actions" in page.text
    assert "better minus plain" in page.text
    assert not [tag for tag in page.all("script") + page.all("link") if tag.get("src", "data:")[:5] != "data:"]
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == [
        *(f"learning_{i}.png" for i in range(3)),
        "profile_sampled.png",
    ]


def test_results_that_cannot_be_read_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "suite.json").write_text("{}")
    _report(tmp_path, "--out", tmp_path / "page.html", code=2)
    assert capsys.readouterr().err == f"jaxpg: {tmp_path}/suite.json: cannot be read as the results of a suite\n"
