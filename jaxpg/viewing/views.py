"""Makes the charts of a report from the logs of runs."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from jaxpg.config import flatten, own_section
from jaxpg.learners.registry import LEARNERS
from jaxpg.run.writers import Record
from jaxpg.scores.evaluation_file import Evaluation
from jaxpg.scores.intervals import mean_interval
from jaxpg.viewing.charts import Chart, Series
from jaxpg.viewing.run_log import RunLog

POINTS = 240
"""Most points of a line; nobody could see more."""
DOTS = 1200
"""Most dots of one series."""
MOST_ROWS = 200
"""Most rows of a chart of evaluations; the table has all of them. Matplotlib fails at a few thousand."""
FEWEST_SEEDS = 3
"""Least number of runs whose mean has an interval. Two runs' interval is so wide that it hides all lines: the mean plus
and minus thirteen standard errors.
"""
SHOWN_SETTINGS = 3
"""Groups of runs that differ by the seed are named by the settings in which they differ, where these are so few."""
ROUNDING = 1e-6
"""A metric that is never larger is not shown, such as the divergence of a policy from itself."""
PHASES = ("emulate", "act", "learn", "other")
COMMON = {"iteration", "agent_steps", "frames", "episodes", "wall_seconds", "agent_steps_per_second"}
"""Keys that the records of all learners have, besides the return and the phases."""


class Run(NamedTuple):
    """A run with its name, colour and dash pattern on the page."""

    name: str
    """Name that no other run on the page has."""
    log: RunLog
    color: int
    """Number of the colour, which runs share if they differ only by the seed."""
    group: str
    """Common name of the runs that share the colour; ``name`` where the run is the only one."""
    dash: int
    """Number of the run among the runs that share the colour."""


class Scale(NamedTuple):
    """The unit of an axis, chosen so that its numbers are easy to read."""

    label: str
    divisor: float


TIME_SCALES = [(Scale("hours", 3600), 3 * 3600), (Scale("minutes", 60), 180), (Scale("seconds", 1), 0)]
"""Time scales, each with the least number of seconds for which it is used."""


def number_runs(logs: Sequence[RunLog]) -> list[Run]:
    """Gives each run a unique name, and a colour that it shares with the runs that differ only by the seed."""
    names: list[str] = []
    for log in logs:
        names.append(next(n for n in (log.name, *(f"{log.name} ({i})" for i in range(2, 1000))) if n not in names))
    settings: list[dict[str, Any]] = [
        {k: x for k, x in flatten(log.config).items() if k not in ("run.seed", "run.dir")} for log in logs
    ]
    firsts = sorted({settings.index(one) for one in settings})
    groups = [settings[first] for first in firsts if settings.count(settings[first]) > 1]
    differ = [key for one in groups[:1] for key in one if any(other.get(key) != one[key] for other in groups)]
    shown = [key for key in differ if key not in ("env.game", "run.learner")]
    shown = shown if len(shown) <= SHOWN_SETTINGS else []
    runs = []
    for i, (name, log) in enumerate(zip(names, logs, strict=True)):
        same = [j for j, one in enumerate(settings) if one == settings[i]]
        seeds = ", ".join(str(logs[j].config.run.seed) for j in same)
        own = "".join(f", {key} {settings[i].get(key)}" for key in shown)
        group = f"{log.config.env.game} {log.config.run.learner.replace('_', ' ')}{own}, seeds {seeds}"
        runs.append(Run(name, log, firsts.index(same[0]), group if len(same) > 1 else name, same.index(i)))
    return runs


def learning_charts(runs: Sequence[Run]) -> list[Chart]:
    """Draws the mean return of the last 100 episodes against agent steps and against time."""
    steps = _steps_scale([run.log for run in runs])
    seconds = max((r["wall_seconds"] or 0 for run in runs for r in run.log.records[-1:]), default=0.0)
    time = next(scale for scale, least in TIME_SCALES if seconds >= least)
    charts = []
    for key, scale, of in (("agent_steps", steps, "agent steps"), ("wall_seconds", time, "time")):
        series = _curves(runs, key, scale.divisor)
        if series:
            levels = _target_levels(runs)
            title = f"Mean return of the last 100 games against {of}"
            name = "return_" + ("steps" if key == "agent_steps" else "time")
            charts.append(Chart(name, title, scale.label, "return", (*series, *levels)))
    return charts


def _curves(runs: Sequence[Run], key: str, divisor: float) -> list[Series]:
    """Makes a line for each run. Where runs differ only by the seed, their lines are behind the line of their mean."""
    series = []
    for color, same in groupby(sorted(runs, key=lambda run: run.color), key=lambda run: run.color):
        group = list(same)
        lines = [(run, *_line(run.log.records, key, "return_mean_100", divisor)) for run in group]
        lines = [line for line in lines if line[1].size]
        several = len(lines) > 1
        series += [
            Series(run.name, "line", *thin(x, y), color, faint=several, dash=run.dash if several else 0)
            for run, x, y in lines
        ]
        if several:
            series += mean_curve([(x, y) for _, x, y in lines], f"{group[0].group}: mean", color)
    return series


def mean_curve(lines: Sequence[tuple[np.ndarray, np.ndarray]], name: str, color: int) -> list[Series]:
    """Makes the line of the mean over several runs, with its interval, as far as all of the runs go."""
    first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if first >= last:
        return []
    grid = np.linspace(first, last, POINTS // 2)
    values = np.stack([np.interp(grid, x, y) for x, y in lines])
    mean, interval = values.mean(axis=0), mean_interval(values)
    if len(lines) < FEWEST_SEEDS or interval is None:
        return [Series(name, "line", grid, mean, color)]
    return [Series(f"{name}, 95 % interval", "line", grid, mean, color, *interval)]


def _target_levels(runs: Sequence[Run]) -> list[Series]:
    targets = {run.log.config.run.target_return: run.color for run in runs}
    x = np.zeros(1)
    return [
        Series(f"target {target:g}", "level", x, x + target, color, faint=True)
        for target, color in targets.items()
        if target is not None
    ]


def games_chart(run: Run, index: int) -> Chart | None:
    """Draws the return of every episode of training; None where no episode has ended.

    For a search, the horizontal axis is the candidate, and a second series shows the means of the fresh episodes that
    finalists played.
    """
    games = run.log.games
    if not games:
        return None
    returns = np.array([game.episode_return for game in games])
    search_episodes = LEARNERS[run.log.config.run.learner].search_episodes
    if search_episodes:
        return _candidates_chart(run, returns, index, search_episodes(own_section(run.log.config)))
    scale = _steps_scale([run.log])
    x = np.array([game.agent_steps for game in games]) / scale.divisor
    dots = Series("one game", "dots", *thin(x, returns, DOTS), run.color, faint=True)
    title = f"Return of {'every game' if len(games) <= DOTS else f'{DOTS:,} of {len(games):,} games'}: {run.name}"
    return Chart(f"games_{index}", title, scale.label, "return", (dots,))


def _candidates_chart(run: Run, returns: np.ndarray, index: int, search_episodes: int) -> Chart:
    """Draws the returns of a search by candidate.

    The first ``search_episodes`` episodes of a candidate belong to the search; its later episodes are fresh.
    """
    candidate = np.array([game.candidate for game in run.log.games])
    nth = np.zeros(candidate.size, int)
    seen: dict[int, int] = {}
    for i, one in enumerate(candidate.tolist()):
        nth[i] = seen.get(one, 0)
        seen[one] = nth[i] + 1
    ids, search = _means(candidate, returns, nth < search_episodes)
    finalists, fresh = _means(candidate, returns, nth >= search_episodes)
    name = "return in the search"
    series = [Series(name, "dots", ids, search, run.color, faint=True, label=name)]
    if finalists.size:
        series.append(Series("mean of the finalist's fresh games", "dots", finalists, fresh, run.color + 1))
    title = f"Return of every candidate: {run.name}"
    return Chart(f"candidates_{index}", title, "candidate", "return", tuple(series))


def _means(candidate: np.ndarray, returns: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids, where = np.unique(candidate[which], return_inverse=True)
    return ids.astype(float), np.bincount(where, returns[which]) / np.maximum(np.bincount(where), 1)


def evaluation_chart(runs: Sequence[Run]) -> Chart | None:
    """Draws a row for each evaluation: every episode as a dot, and the mean with its interval."""
    series: list[Series] = []
    rows: list[str] = []
    evaluations = [(one, evaluation) for one in runs for evaluation in one.log.evaluations]
    for run, evaluation in evaluations[-MOST_ROWS:]:
        returns = np.array(evaluation.returns)
        row, jitter = np.array([float(len(rows))]), 0.4 * (np.random.default_rng(0).random(returns.size) - 0.5)
        series.append(Series("one game", "dots", *thin(returns, row + jitter, DOTS), run.color, faint=True))
        mean, low, high = (np.array([x]) for x in (evaluation.mean, evaluation.mean_low, evaluation.mean_high))
        rows.append(f"{run.name}: {describe(evaluation)}")
        if evaluation.mean_low is None:
            series.append(Series(rows[-1], "dots", mean, row, run.color, faint=True, label="mean without an interval"))
        else:
            series.append(Series(rows[-1], "interval", mean, row, run.color, low, high))
    of_all = "" if len(evaluations) <= MOST_ROWS else f", the last {MOST_ROWS} of {len(evaluations)} evaluations"
    why = "; cut: by the time limit" if any(evaluation.cut for _, evaluation in evaluations[-MOST_ROWS:]) else ""
    title = f"Returns of evaluated games, mean and 95 % interval{of_all}{why}"
    return Chart("evaluations", title, "return", "", tuple(series), tuple(rows)) if series else None


def describe(evaluation: Evaluation) -> str:
    """Describes an evaluation, such as "checkpoint 7, greedy, 64 games (25 different, 3 cut)"."""
    seed = f", seed {evaluation.seed}" if evaluation.seed else ""
    remarks = []
    if evaluation.distinct is not None and evaluation.distinct < evaluation.episodes:
        remarks.append(f"{evaluation.distinct} different")
    if evaluation.cut:
        remarks.append(f"{evaluation.cut} cut")
    games = f"{evaluation.episodes} games" + (f" ({', '.join(remarks)})" if remarks else "")
    return f"checkpoint {evaluation.checkpoint}, {evaluation.actions}{seed}, {games}"


def time_chart(runs: Sequence[Run]) -> Chart | None:
    """Draws how many microseconds an agent step takes in each phase, without the first iterations, which compile."""
    series: list[Series] = []
    for row, run in enumerate(runs):
        left = 0.0
        for i, (phase, microseconds) in enumerate(phase_microseconds(run.log.records).items()):
            low, left = left, left + microseconds
            series.append(Series(phase, "bars", np.array([left]), np.array([float(row)]), i, np.array([low])))
    title = "Time of an agent step, over all lanes"
    rows = tuple(run.name for run in runs)
    return Chart("time", title, "microseconds an agent step", "", tuple(series), rows) if series else None


def phase_microseconds(records: Sequence[Record]) -> dict[str, float]:
    """Computes the mean microseconds of an agent step in each phase; empty without records.

    The first iterations are left out, because they compile.
    """
    settled = records[len(records) // 20 + 1 :] or records
    if not settled:
        return {}
    before = records[len(records) - len(settled) - 1]["agent_steps"] if len(settled) < len(records) else 0
    agent_steps = max((settled[-1]["agent_steps"] or 0) - (before or 0), 1)
    return {phase: 1e6 * sum(r.get(f"{phase}_seconds") or 0 for r in settled) / agent_steps for phase in PHASES}


def signal_charts(runs: Sequence[Run]) -> list[Chart]:
    """Draws the learner's own metrics, such as entropy, against agent steps."""
    scale = _steps_scale([run.log for run in runs])
    names = sorted({name for run in runs for record in run.log.records[-1:] for name in record})
    names = [n for n in names if n not in COMMON and n != "return_mean_100" and not n.endswith("_seconds")]
    charts: list[Chart] = []
    for name in names:
        lines = [(run, *_line(run.log.records, "agent_steps", name, scale.divisor)) for run in runs]
        series = [
            Series(run.name, "line", *_binned(x, y), run.color, label=run.group, dash=run.dash)
            for run, x, y in lines
            if x.size and np.abs(y).max() > ROUNDING
        ]
        if series:
            title = name.replace("_", " ")
            charts.append(Chart(f"signal_{_as_key(name, charts)}", title, scale.label, title, tuple(series)))
    return charts


def _as_key(name: str, others: Sequence[Chart]) -> str:
    """The name of a metric, which may be any text, as part of a chart's key, which is an id in the page and a file.

    >>> _as_key("policy_loss", []), _as_key("../x", [])
    ('policy_loss', '___x_0')
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:100]
    return plain if plain == name else f"{plain}_{len(others)}"


def trace_charts(game: dict[str, Any], action_names: Sequence[str], key: str) -> list[Chart]:
    """Draws two charts of a recorded episode: its rewards, returns-to-go and values, and the actions' probabilities."""
    rewards, returns = np.array(game["rewards"], float), np.array(game["returns_to_go"], float)
    steps = np.arange(rewards.size, dtype=float)
    rewarded = np.flatnonzero(rewards)
    credit = [Series("return-to-go", "line", *thin(steps, returns), 0)]
    if game.get("values"):
        credit.append(Series("value", "line", *thin(steps, np.array(game["values"], float)), 1))
    credit.append(Series("reward", "dots", steps[rewarded], rewards[rewarded], 2))
    probabilities = np.array(game["probabilities"], float).reshape(rewards.size, len(action_names))
    most = np.sort(np.argsort(-probabilities.mean(axis=0), kind="stable")[:4])
    if len(action_names) == 2:
        most = most[:1]  # the other probability is 1 minus this one
    chances = [
        Series(action_names[a].lower(), "line", *_binned(steps, probabilities[:, a]), i) for i, a in enumerate(most)
    ]
    of_most = "" if len(most) == len(action_names) or len(action_names) == 2 else f", the {len(most)} most likely"
    return [
        Chart(f"{key}_returns", "Rewards and returns-to-go along the game", "agent step", "return", tuple(credit)),
        Chart(f"{key}_chances", f"Probability of actions along the game{of_most}", "agent step", "", tuple(chances)),
    ]


def thin(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out points evenly so that at most ``points`` remain; the first and the last stay."""
    keep = np.unique(np.linspace(0, x.size - 1, min(points, x.size)).astype(int))
    return x[keep], y[keep]


def _binned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replaces neighbouring points by their means, so that noise does not hide the trend."""
    edges = np.unique(np.linspace(0, x.size, min(POINTS // 2, x.size) + 1).astype(int))
    count = np.diff(edges)
    return np.add.reduceat(x, edges[:-1]) / count, np.add.reduceat(y, edges[:-1]) / count


def _line(records: Sequence[Record], key: str, name: str, divisor: float) -> tuple[np.ndarray, np.ndarray]:
    points = [(record[key], record[name]) for record in records if record.get(name) is not None]
    x, y = np.array(points, float).reshape(-1, 2).T
    return x / divisor, y


def _steps_scale(logs: Sequence[RunLog]) -> Scale:
    most = max((record["agent_steps"] or 0 for log in logs for record in log.records[-1:]), default=0)
    if most > 500_000:
        return Scale("million agent steps", 1e6)
    return Scale("thousand agent steps", 1e3) if most > 5_000 else Scale("agent steps", 1)
