"""Makes the tables of a report from the logs of runs; every cell is text for people."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from jaxpg.config import flatten
from jaxpg.run.run_progress import WINDOW_EPISODES
from jaxpg.scores.evaluation_file import Evaluation
from jaxpg.scores.human_scores import incomparable
from jaxpg.viewing.charts import short
from jaxpg.viewing.views import PHASES, Run, describe, phase_microseconds

NOTHING = "–"


class Table(NamedTuple):
    """A table; the first cell of each row names the row."""

    caption: str
    head: list[str]
    rows: list[list[str]]


def runs_table(runs: Sequence[Run]) -> Table:
    """Makes a table with one row for each run."""
    head = ["run", "game", "learner", "agent steps", "games", "time", "agent steps/s", "last 100 games", "ended"]
    rows = []
    for run in runs:
        config, records = run.log.config, run.log.records
        last = records[-1] if records else {}
        steps, seconds = last.get("agent_steps") or 0, last.get("wall_seconds") or 0
        rows.append(
            [
                run.name,
                config.env.game,
                config.run.learner.replace("_", " "),
                f"{steps:,.0f}",
                f"{last.get('episodes') or 0:,.0f}",
                duration(seconds),
                short(steps / seconds) if seconds else NOTHING,
                _of_games(last.get("return_mean_100"), last.get("episodes") or 0),
                run.log.ended or "not yet, or interrupted",
            ]
        )
    return Table("What was run", head, rows)


def checkpoints_table(runs: Sequence[Run]) -> Table | None:
    """Makes a table with one row for each evaluation, and one for each checkpoint without evaluations.

    A row shows the checkpoint's progress in training beside the scores of the evaluation.
    """
    rows = []
    for run in runs:
        for progress in run.log.checkpoints:
            mine = [one for one in run.log.evaluations if one.checkpoint == progress.iteration]
            shown: list[Evaluation | None] = [*mine] or [None]
            for evaluation in shown:
                rows.append(
                    [
                        f"{run.name}: {progress.iteration}",
                        f"{progress.agent_steps:,}",
                        duration(progress.wall_seconds),
                        _of_games(progress.return_mean_100, len(progress.last_returns)),
                        *_scores(evaluation),
                    ]
                )
    head = [
        "checkpoint",
        "agent steps",
        "time",
        "last 100 games",
        "evaluation",
        "mean [95 %]",
        "median",
        "IQM",
        "range",
        "human = 1",
    ]
    if all(row[-1] == NOTHING for row in rows):  # these are no Atari games, or nobody has measured a human
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table("Checkpoints and their scores", head, rows) if rows else None


def _of_games(mean: float | None, games: float) -> str:
    """A mean return of the last 100 games, with their number while there are fewer."""
    return _or_nothing(mean) + (f" of {games:.0f}" if mean is not None and games < WINDOW_EPISODES else "")


def _scores(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return [NOTHING] * 6
    low, high = evaluation.mean_low, evaluation.mean_high
    why_no_human = incomparable(evaluation.env)
    return [
        describe(evaluation).split(", ", 1)[1],
        short(evaluation.mean) + (f" [{short(low)}, {short(high)}]" if low is not None and high is not None else ""),
        short(evaluation.median),
        short(evaluation.iqm),
        f"{short(evaluation.min)} to {short(evaluation.max)}",
        f"{NOTHING} ({why_no_human})" if why_no_human else _or_nothing(evaluation.human_normalized),
    ]


def time_table(runs: Sequence[Run]) -> Table | None:
    """Makes a table of how long an agent step takes in each phase."""
    rows = []
    for run in runs:
        phases = phase_microseconds(run.log.records)
        total = sum(phases.values())
        if total:
            shares = [f"{short(phases[p])} ({phases[p] / total:.0%})" for p in PHASES]
            rows.append([run.name, *shares, short(total)])
    return Table("Microseconds of an agent step", ["run", *PHASES, "total"], rows) if rows else None


def settings_table(runs: Sequence[Run]) -> Table | None:
    """Makes a table of the settings that differ between the runs; None where there are none."""
    flat = [flatten(run.log.config) for run in runs]
    keys = [key for key in flat[0] if key != "run.dir" and any(one[key] != flat[0][key] for one in flat)]
    rows = [[key, *(json.dumps(one[key], ensure_ascii=False) for one in flat)] for key in keys]
    return (
        Table("Settings that differ between the runs", ["setting", *(run.name for run in runs)], rows) if rows else None
    )


def duration(seconds: float) -> str:
    """Formats a duration in hours, minutes and seconds.

    >>> duration(59.6), duration(417), duration(7261)
    ('1 min 0 s', '6 min 57 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _or_nothing(value: float | None) -> str:
    return NOTHING if value is None else short(value)
