"""The page of a suite: how each recipe learned each game, how good it became, and its scores over all games."""

from collections.abc import Sequence

import numpy as np

from jaxpg.scores.over_games import performance_profile, with_interval
from jaxpg.scores.suite_file import SuiteResults, SuiteRow
from jaxpg.scores.suite_tables import ACTIONS, differences, game_score, groups_of, normalized_scores, over_games
from jaxpg.viewing.charts import Chart, Series, short
from jaxpg.viewing.report_page import Section, count, render
from jaxpg.viewing.tables import NOTHING, Table, duration
from jaxpg.viewing.views import mean_curve

LEVELS = 101
"""Number of levels at which a performance profile is computed."""


def suite_page(results: SuiteResults, name: str) -> tuple[str, list[Chart]]:
    """Makes the page of a suite as HTML, and returns it with its charts.

    Args:
      results: the rows of the suite.
      name: the title of the page.
    """
    rows = results.rows
    sections = [
        Section(
            "Over all games",
            "Human-normalised scores of the games that every recipe was evaluated on. The interquartile mean (IQM) "
            "leaves out the best and the worst quarter of the runs. A performance profile shows the share of runs "
            "above each score. Intervals of 95 % are stratified bootstraps (Agarwal et al. 2021).",
            [chart for actions in ACTIONS for chart in _over_games_charts(rows, actions)],
            [table for actions in ACTIONS if (table := _over_games_table(rows, actions))],
        ),
        Section(
            "How good it is",
            f"Mean return of {results.episodes} whole games of each run (checkpoint: {results.checkpoint}), and the "
            "mean over seeds with Student's 95 % interval. A recipe is better than another one where the interval of "
            "their difference (Welch's t) lies above 0.",
            [],
            [_games_table(rows), *_differences_table(rows)],
        ),
        Section(
            "How it learned",
            "Mean return of the last 100 games of training. Faint lines are seeds; their mean is drawn as far as "
            "all of them go.",
            _learning_charts(rows),
            [],
        ),
    ]
    sections = [section for section in sections if section.charts or section.tables]
    page = render(
        title=f"{name}: {count(rows, 'run')}",
        overview=_runs_table(rows),
        sections=sections,
        remarks=[(row.folder, row.failure) for row in rows if row.failure],
    )
    return page, [chart for section in sections for chart in section.charts]


def _runs_table(rows: Sequence[SuiteRow]) -> Table:
    head = ["run", "recipe", "game", "seed", *ACTIONS, "agent steps", "time", "ended"]
    lines = []
    for row in rows:
        means = [short(row.scores[actions].mean) if actions in row.scores else NOTHING for actions in ACTIONS]
        ended = f"failed: {row.failure}" if row.failure else row.ended or "not yet"
        about = [row.folder, row.recipe, row.game, str(row.seed)]
        lines.append([*about, *means, f"{row.agent_steps:,}", duration(row.seconds), ended])
    return Table("What was run", head, lines)


def _games_table(rows: Sequence[SuiteRow]) -> Table:
    lines = []
    for (recipe, game), group in groups_of(rows).items():
        for actions in ACTIONS:
            score = game_score(group, actions)
            if score is None:
                lines.append([recipe, game, actions, f"0 of {len(group)}", NOTHING, NOTHING])
                continue
            band = "" if score.low is None or score.high is None else f" [{short(score.low)}, {short(score.high)}]"
            human = NOTHING if score.human_normalized is None else short(score.human_normalized)
            seeds = f"{score.seeds} of {len(group)}"
            lines.append([recipe, game, actions, seeds, short(score.mean) + band, human])
    return Table("By game", ["recipe", "game", "actions", "seeds", "mean [95 %]", "human = 1"], lines)


def _differences_table(rows: Sequence[SuiteRow]) -> list[Table]:
    """The table of each recipe minus the first one of its game, if there is anything to compare."""
    lines = []
    for one in differences(rows):
        band = f"{short(one.mean)} [{short(one.low)}, {short(one.high)}]"
        lines.append([f"{one.recipe} minus {one.than}", one.game, one.actions, band])
    return [Table("Is it better?", ["recipes", "game", "actions", "difference [95 %]"], lines)] if lines else []


def _over_games_table(rows: Sequence[SuiteRow], actions: str) -> Table | None:
    lines = []
    for recipe, scores in normalized_scores(rows, actions).items():
        found = over_games(scores)
        cells = []
        for value, interval in ((found.iqm, found.iqm_interval), (found.mean, found.mean_interval)):
            band = f" [{short(float(interval.low))}, {short(float(interval.high))}]" if interval else ""
            cells.append(short(value) + band)
        lines.append([recipe, str(found.games), str(found.runs), *cells])
    head = ["recipe", "games", "runs", "IQM [95 %]", "mean [95 %]"]
    return Table(f"Human-normalised scores, {actions} actions", head, lines) if lines else None


def _over_games_charts(rows: Sequence[SuiteRow], actions: str) -> list[Chart]:
    found = normalized_scores(rows, actions)
    if not found:
        return []
    values = np.concatenate([game for scores in found.values() for game in scores])
    levels = np.linspace(min(0.0, float(values.min())), max(float(values.max()), 1e-3), LEVELS)
    profiles = []
    for color, (recipe, scores) in enumerate(found.items()):
        interval = with_interval(lambda drawn: performance_profile(drawn, levels), scores)
        low, high = (interval.low, interval.high) if interval else (None, None)
        profiles.append(Series(recipe, "line", levels, performance_profile(scores, levels), color, low, high))
    title = f"Performance profile, {actions} actions"
    return [Chart(f"profile_{actions}", title, "human-normalised score", "share of runs above", tuple(profiles))]


def _learning_charts(rows: Sequence[SuiteRow]) -> list[Chart]:
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    charts = []
    for number, game in enumerate(dict.fromkeys(row.game for row in rows)):
        series: list[Series] = []
        for color, recipe in enumerate(recipes):
            curves = [
                (f"{recipe}, seed {row.seed}", *np.array(row.curve).T)
                for row in rows
                if row.group == (recipe, game) and row.curve
            ]
            several = len(curves) > 1
            series += [Series(name, "line", x, y, color, faint=several) for name, x, y in curves]
            if several:
                series += mean_curve([(x, y) for _, x, y in curves], f"{recipe}: mean", color)
        if series:
            charts.append(Chart(f"learning_{number}", game, "agent steps", "return", tuple(series)))
    return charts
