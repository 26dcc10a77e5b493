"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from jaxpg.machine.console import Forgiving, say
from jaxpg.machine.waiting import SECONDS_BETWEEN_LINES, terminal
from jaxpg.run.run_progress import WINDOW_EPISODES
from jaxpg.run.writers import EpisodeRow, Record


class PlainProgress:
    """Prints ``key=value`` lines on stdout, at most one every ten seconds besides the first and the last.

    Args:
      stage: names of the metrics that say where the learner stands, such as a search's round.
    """

    def __init__(self, stage: Sequence[str] = ()) -> None:
        self._stage = stage
        self._last_seconds = float("-inf")
        self._unsaid: Record | None = None

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._unsaid = record
        if time.monotonic() - self._last_seconds >= SECONDS_BETWEEN_LINES:
            self._say()

    def close(self) -> None:
        self._say()

    def _say(self) -> None:
        if self._unsaid is None:
            return
        shown = ["iteration", "agent_steps", "episodes", "wall_seconds", "agent_steps_per_second", "return_mean_100"]
        shown += [name for name in self._stage if name in self._unsaid]
        say(" ".join(f"{name}={_short(self._unsaid[name])}" for name in shown))
        self._unsaid = None
        self._last_seconds = time.monotonic()


class LiveProgress:
    """Draws one line of at most 80 columns: time left, share of the budget, mean return, and speed.

    The mean return is that of the last 100 games; while there are fewer, their number stands behind it,
    where the stage of a search leaves room.

    Args:
      console: where the line is drawn.
      budget_agent_steps: the run's budget of agent steps.
      done_agent_steps: how many of these agent steps are done.
      stage: names of the metrics that say where the learner stands, such as a search's round.
    """

    def __init__(
        self, console: Console, budget_agent_steps: int, done_agent_steps: int, stage: Sequence[str] = ()
    ) -> None:
        self._stage = stage
        self._progress = Progress(
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:3.0f} % of {task.fields[budget]} steps", table_column=_whole()),
            TextColumn("return {task.fields[mean]}", table_column=_whole()),
            TextColumn("{task.fields[speed]}/s{task.fields[stage]}", table_column=_whole()),
            console=console,
        )
        self._task = self._progress.add_task(
            "training",
            total=budget_agent_steps,
            completed=done_agent_steps,
            budget=_with_unit(budget_agent_steps),
            speed="-",
            mean="-",
            stage="",
        )
        self._progress.start()

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        stage = "".join(f", {name} {_short(record[name])}" for name in self._stage if name in record)
        self._progress.update(
            self._task,
            completed=record["agent_steps"],
            speed=_short(record["agent_steps_per_second"]),
            mean=_short(record["return_mean_100"]) if stage else _mean(record),
            stage=stage,
        )

    def close(self) -> None:
        self._progress.stop()


def _whole() -> Column:
    """A column whose text is never wrapped."""
    return Column(no_wrap=True)


def _with_unit(number: int) -> str:
    """Shortens a large number to three digits and a unit.

    >>> _with_unit(3_500_000), _with_unit(640), _with_unit(20_000_000_000)
    ('3.5M', '640', '20B')
    """
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def make_display(
    budget_agent_steps: int, done_agent_steps: int, stage: Sequence[str] = (), *, bar: bool
) -> PlainProgress | LiveProgress:
    """Chooses the bar if it is asked for and stdout is a terminal, and plain lines otherwise.

    The arguments are those of ``LiveProgress``.
    """
    if bar and Forgiving(sys.stdout).isatty():
        return LiveProgress(terminal(), budget_agent_steps, done_agent_steps, stage)
    return PlainProgress(stage)


def _mean(record: Record) -> str:
    """The mean return of the last 100 games, with the number of games while there are fewer."""
    mean, games = record["return_mean_100"], record["episodes"]
    is_early = mean is not None and games is not None and games < WINDOW_EPISODES
    return f"{_short(mean)} of {games}" if is_early else _short(mean)


def _short(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}" if abs(value) < 1000 else f"{value:.0f}"
