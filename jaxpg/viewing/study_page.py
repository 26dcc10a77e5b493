"""The page of a search for settings: its trials, their learning curves, and what each setting does."""

import json
from typing import Any

import numpy as np

from jaxpg.core.validation import is_number
from jaxpg.scores.study_file import StudyResults, StudyTrial
from jaxpg.viewing.charts import Chart, Series, short
from jaxpg.viewing.report_page import Section, count, render
from jaxpg.viewing.tables import NOTHING, Table
from jaxpg.viewing.views import MOST_ROWS

OTHERS, BEST = 7, 0
"""Colours of the best trial and of the others."""


def study_page(results: StudyResults, name: str) -> tuple[str, list[Chart]]:
    """Makes the page of a study as HTML, and returns it with its charts.

    Args:
      results: the trials of the study.
      name: the title of the page.
    """
    about = f"The value of a trial is the {results.about}. The larger the better."
    settings = [_setting_chart(results, i) for i in range(len(results.settings))]
    sections = [
        Section("How the search went", about, [*_history_chart(results), *_curves_chart(results)], []),
        Section(
            "What each setting does",
            "Each dot is a complete trial. The other settings vary, too.",
            [chart for chart in settings if chart],
            [],
        ),
    ]
    sections = [section for section in sections if section.charts]
    page = render(title=f"{name}: {count(results.trials, 'trial')}", overview=_trials_table(results), sections=sections)
    return page, [chart for section in sections for chart in section.charts]


def _complete(results: StudyResults) -> list[tuple[StudyTrial, float]]:
    return [(trial, trial.value) for trial in results.trials if trial.value is not None]


def _trials_table(results: StudyResults) -> Table:
    """Makes a table with one row for each trial, the best first."""
    order = sorted(results.trials, key=lambda one: (one.value is None, -(one.value or 0), one.number))
    rows = []
    for trial in order:
        settings = [_text(trial.settings[key]) if key in trial.settings else NOTHING for key in results.settings]
        scores = [_or_nothing(trial.scores.get(str(seed))) for seed in results.seeds]
        state = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
        rows.append([str(trial.number), *settings, _or_nothing(trial.value), *scores, state])
    head = ["trial", *results.settings, "value", *(f"seed {seed}" for seed in results.seeds), "state"]
    return Table("Trials, the best first", head, rows)


def _history_chart(results: StudyResults) -> list[Chart]:
    found = _complete(results)
    if not found:
        return []
    numbers = np.array([float(trial.number) for trial, _ in found])
    values = np.array([value for _, value in found])
    series = (
        Series("trial", "dots", numbers, values, OTHERS),
        Series("best so far", "line", numbers, np.maximum.accumulate(values), BEST),
    )
    return [Chart("history", "Value of each complete trial", "trial", "value", series)]


def _curves_chart(results: StudyResults) -> list[Chart]:
    series = []
    for trial in sorted(results.trials, key=lambda one: one.number == results.best):
        if not trial.curve:
            continue
        is_best = trial.number == results.best
        name = f"trial {trial.number}" + (", the best" if is_best else f", {trial.state}")
        x, y = np.array(trial.curve).T
        series.append(Series(name, "line", x, y, BEST if is_best else OTHERS, faint=not is_best))
    title = "Return over the seeds while trials run"
    return [Chart("curves", title, "agent steps", "return", tuple(series))] if series else []


def _setting_chart(results: StudyResults, index: int) -> Chart | None:
    """Draws the value of each complete trial against a setting, whose values are rows unless they are numbers."""
    key = results.settings[index]
    found = [(trial.settings[key], value) for trial, value in _complete(results) if key in trial.settings]
    if not found:
        return None
    values = np.array([value for _, value in found])
    if all(is_number(x) for x, _ in found):
        numbers = np.array([float(x) for x, _ in found])
        if key in results.logarithmic and (numbers > 0).all():
            numbers, label = np.log10(numbers), f"log10 of {key}"
        else:
            label = key
        dots = Series("trial", "dots", numbers, values, BEST)
        return Chart(f"setting_{index}", key, label, "value", (dots,))
    rows = list(dict.fromkeys(_text(x) for x, _ in found))
    if len(rows) > MOST_ROWS:
        return None
    places = np.array([float(rows.index(_text(x))) for x, _ in found])
    dots = Series("trial", "dots", values, places, BEST)
    return Chart(f"setting_{index}", key, "value", "", (dots,), tuple(rows))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return short(value)
    return value if isinstance(value, str) else json.dumps(value)


def _or_nothing(value: float | None) -> str:
    return NOTHING if value is None else short(value)
