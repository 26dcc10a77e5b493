"""What the rows of a suite say: each recipe's score in each game, and over all games."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpg.scores.intervals import difference_interval, mean_interval
from jaxpg.scores.over_games import Estimate, iqm, mean_of_games, with_interval
from jaxpg.scores.suite_file import SuiteRow

ACTIONS = ("sampled", "greedy")
"""Ways to choose actions in an evaluation."""


class GameScore(NamedTuple):
    """A recipe's score in one game, over its seeds."""

    seeds: int
    """How many seeds were evaluated."""
    mean: float
    low: float | None
    """Lower end of the 95 % interval of the mean over seeds; None with a single seed."""
    high: float | None
    human_normalized: float | None


class Difference(NamedTuple):
    """How much better a recipe is in one game than the suite's first recipe there."""

    recipe: str
    than: str
    game: str
    actions: str
    mean: float
    """Difference of the two means over seeds."""
    low: float
    """Lower end of the difference's 95 % interval (Welch's t)."""
    high: float


class OverGames(NamedTuple):
    """A recipe's human-normalised scores over all games."""

    games: int
    runs: int
    iqm: float
    iqm_interval: Estimate | None
    """None where a game has a single run."""
    mean: float
    mean_interval: Estimate | None


def groups_of(rows: Sequence[SuiteRow]) -> dict[tuple[str, str], list[SuiteRow]]:
    """Groups the rows by recipe and game, in the order in which they come."""
    groups: dict[tuple[str, str], list[SuiteRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def game_score(rows: Sequence[SuiteRow], actions: str) -> GameScore | None:
    """Computes the score of one recipe in one game; None where no seed was evaluated.

    The score is the mean over seeds of each seed's mean return, with Student's interval over the seeds, because the
    seeds are few and the games of one seed are not independent of each other.

    Args:
      rows: the runs of the seeds.
      actions: ``sampled`` or ``greedy``.
    """
    scores = [row.scores[actions] for row in rows if actions in row.scores]
    if not scores:
        return None
    means = _means(rows, actions)
    interval = mean_interval(means)
    low, high = (float(interval[0]), float(interval[1])) if interval else (None, None)
    normalized = [score.human_normalized for score in scores if score.human_normalized is not None]
    human = float(np.mean(normalized)) if len(normalized) == len(scores) else None
    return GameScore(len(scores), float(means.mean()), low, high, human)


def differences(rows: Sequence[SuiteRow]) -> list[Difference]:
    """Compares each recipe with the first one of the same game, where both have two seeds or more.

    Whether one recipe is better is a question about this difference. The recipes' own intervals do not answer it: they
    may overlap although the difference is clear.
    """
    found = []
    first: dict[str, str] = {}
    groups = groups_of(rows)
    for recipe, game in groups:
        than = first.setdefault(game, recipe)
        for actions in ACTIONS if than != recipe else ():
            one, other = (_means(groups[name, game], actions) for name in (recipe, than))
            if interval := difference_interval(one, other):
                mean = float(one.mean() - other.mean())
                found.append(Difference(recipe, than, game, actions, mean, *interval))
    return found


def normalized_scores(rows: Sequence[SuiteRow], actions: str) -> dict[str, list[np.ndarray]]:
    """Collects the human-normalised scores of each recipe: one array for each game, with one value for each run.

    Only games in which every recipe has such a score count, so that recipes are compared on the same games.
    """
    found: dict[str, dict[str, np.ndarray]] = {recipe: {} for recipe, _ in groups_of(rows)}
    for (recipe, game), group in groups_of(rows).items():
        scores = [row.scores[actions].human_normalized for row in group if actions in row.scores]
        known = [score for score in scores if score is not None]
        if known:
            found[recipe][game] = np.array(known)
    common = [game for _, game in groups_of(rows) if all(game in games for games in found.values())]
    names = list(dict.fromkeys(common))
    return {recipe: [games[name] for name in names] for recipe, games in found.items()} if names else {}


def over_games(scores: Sequence[np.ndarray]) -> OverGames:
    """Computes the statistics of one recipe over all games (``jaxpg.scores.over_games``)."""
    return OverGames(
        games=len(scores),
        runs=sum(game.size for game in scores),
        iqm=float(iqm(scores)),
        iqm_interval=with_interval(iqm, scores),
        mean=float(mean_of_games(scores)),
        mean_interval=with_interval(mean_of_games, scores),
    )


def _means(rows: Sequence[SuiteRow], actions: str) -> np.ndarray:
    """The mean return of each run that was evaluated, ``f64[R]``."""
    return np.array([row.scores[actions].mean for row in rows if actions in row.scores])


def markdown(rows: Sequence[SuiteRow], episodes: int, checkpoint: str) -> str:
    """Writes the results as Markdown: over games, by game, and each run."""
    parts = [
        f"Mean return of {episodes} whole games (checkpoint: {checkpoint}). 95 % intervals over seeds are Student's, "
        "those over games are stratified bootstraps. IQM is the interquartile mean. 100 % is a human, 0 % random play."
    ]
    for actions in ACTIONS:
        lines = [_over_games_line(recipe, over_games(s)) for recipe, s in normalized_scores(rows, actions).items()]
        if lines:
            head = "| recipe | games | runs | IQM | 95 % interval | mean | 95 % interval |"
            parts.append(f"## Over games, {actions} actions\n\n" + _table(head, lines))
    by_game = [
        f"| {recipe} | {game} | {actions} | {_cell(game_score(group, actions), len(group))} |"
        for (recipe, game), group in groups_of(rows).items()
        for actions in ACTIONS
    ]
    head = "| recipe | game | actions | seeds | mean | 95 % interval | human-normalised |"
    parts.append("## By game\n\n" + _table(head, by_game))
    lines = [
        f"| {one.recipe} | {one.than} | {one.game} | {one.actions} | {_number(one.mean)} | "
        f"{_number(one.low)} to {_number(one.high)} |"
        for one in differences(rows)
    ]
    if lines:
        head = "| recipe | minus | game | actions | difference | 95 % interval (Welch) |"
        parts.append("## Is it better?\n\n" + _table(head, lines))
    head = "| recipe | game | seed | sampled | greedy | agent steps | minutes | ended |"
    parts.append("## Each run\n\n" + _table(head, [_run_line(row) for row in rows]))
    return "\n\n".join(parts) + "\n"


def _table(head: str, lines: Sequence[str]) -> str:
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *lines])


def _over_games_line(recipe: str, found: OverGames) -> str:
    return (
        f"| {recipe} | {found.games} | {found.runs} | {found.iqm:.1%} | {_percent(found.iqm_interval)} | "
        f"{found.mean:.1%} | {_percent(found.mean_interval)} |"
    )


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{float(estimate.low):.1%} to {float(estimate.high):.1%}"


def _cell(score: GameScore | None, seeds: int) -> str:
    if score is None:
        return f"0 of {seeds} | - | - | -"
    band = "-" if score.low is None or score.high is None else f"{_number(score.low)} to {_number(score.high)}"
    human = "-" if score.human_normalized is None else f"{score.human_normalized:.1%}"
    return f"{score.seeds} of {seeds} | {_number(score.mean)} | {band} | {human}"


def _number(value: float) -> str:
    """A score with one digit after the point, or at most four digits where it is small, as in many environments.

    >>> _number(1234.56), _number(-16.84), _number(0.41749)
    ('1,234.6', '-16.84', '0.4175')
    """
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def _run_line(row: SuiteRow) -> str:
    means = [_number(row.scores[actions].mean) if actions in row.scores else "-" for actions in ACTIONS]
    ended = row.ended or "not yet"
    if row.failure:
        ended = f"**failed**: {row.failure}"
    safe = ended.replace("|", "\\|")
    return (
        f"| {row.recipe} | {row.game} | {row.seed} | {' | '.join(means)} | {row.agent_steps:,} | "
        f"{row.seconds / 60:.1f} | {safe} |"
    )
