"""The page of a search for settings."""

from pathlib import Path

from jaxpg.scores.study_file import StudyResults, StudyTrial, write_study
from tests.report_runs import Page
from tests.viewing.test_suite_page import _report


def _trial(number: int, value: float | None, **changes) -> StudyTrial:
    made = {
        "state": "pruned" if value is None else "complete",
        "settings": {"optimizer.learning_rate": 10.0 ** -(number + 1), "policy.hidden": [8] * (1 + number % 2)},
        "reason": "worse <than> others" if value is None else None,
        "scores": {} if value is None else {"1": value, "2": value},
        "curve": [(100.0, 0.0), (200.0, float(number))],
    }
    return StudyTrial(number=number, value=value, **{**made, **changes})


def _study(*trials: StudyTrial, best: int | None) -> StudyResults:
    settings = ["optimizer.learning_rate", "policy.hidden"]
    about = "mean over seeds 1, 2 of: something"
    return StudyResults(
        about=about, seeds=[1, 2], settings=settings, logarithmic=settings[:1], best=best, trials=list(trials)
    )


def test_the_report_of_a_study_shows_its_trials_and_what_each_setting_does(tmp_path: Path) -> None:
    write_study(tmp_path / "study.json", _study(_trial(0, 1.0), _trial(1, 7.25), _trial(2, None), best=1))
    _report(tmp_path, "--out", tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert [figure["id"] for figure in page.all("figure")] == ["history", "curves", "setting_0", "setting_1"]
    assert "log10 of optimizer.learning_rate" in page.text
    assert "pruned: worse <than> others" in page.text
    assert page.text.index("7.25") < page.text.index("pruned: worse"), "the best comes first"


def test_a_study_without_a_complete_trial_has_a_page(tmp_path: Path) -> None:
    write_study(tmp_path / "study.json", _study(_trial(0, None, state="running", reason=None, curve=[]), best=None))
    _report(tmp_path, "--out", tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.all("figure") == []
    assert "running" in page.text
