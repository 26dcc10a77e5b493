"""Runs a suite of games, seeds and recipes: ``jaxpg.suite(...)`` in Python, ``python -m jaxpg.suite`` in a shell.

The package also holds what a search for settings (``jaxpg.tune``) shares with a suite: trainings in child processes.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from jaxpg.cli import open_recipe, parse, parse_train, trust_flags
from jaxpg.config import Config, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import refuse_links, try_to_write, write_text
from jaxpg.machine.prepared import CallableModule
from jaxpg.machine.signals import Stop, signals_heard, signals_raised_again
from jaxpg.scores.suite_file import SUITE_FILE, SuiteResults, write_suite
from jaxpg.scores.suite_tables import markdown
from jaxpg.suite.evaluated_run import SuiteRun
from jaxpg.suite.trained_folder import Training
from jaxpg.suite.works import Ended, Processes, make_page, run_until_idle

SECONDS_BETWEEN_LINES = 60.0
MAX_PARALLEL = 256
Checkpoint = Literal["latest", "best"]


@dataclasses.dataclass(frozen=True)
class SuiteArguments:
    """Trains every recipe on every game with every seed, evaluates each run, and makes tables and a page.

    The same command goes on where it stopped: finished runs stay, unfinished runs are resumed. Flags of
    python -m jaxpg.train that all runs get come after a --.
    """

    POSITIONAL: ClassVar[str] = "recipe or more"
    recipes: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RECIPE...")] = ()
    """YAML recipes: files, or names of recipes that come with jaxpg, such as atari."""
    games: tuple[str, ...] = ()
    """Games such as Pong; none for each recipe's own game."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the runs."""
    budget_agent_steps: int = 0
    """Agent steps of each run; 0 for the recipe's budget."""
    budget_seconds: float = 0.0
    """Seconds of training of each run; 0 for the recipe's budget."""
    parallel: int = 1
    """Runs at a time, among which the cores are divided."""
    episodes: int = 100
    """Whole games that each finished policy plays with sampled and again with greedy actions; 0 for no evaluation."""
    checkpoint: Checkpoint = "latest"
    """Which checkpoint is evaluated: latest, or best (highest mean return of the last 100 games of training)."""
    out: str = "runs/suite"
    """Folder of the runs and the results."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the runs use, in place of those that the recipes name."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether to import the modules that the recipes name in imports, which runs their code."""


def suite(
    recipes: Sequence[str | Path] | Mapping[str, Mapping[str, Any]],
    games: Sequence[str] = (),
    seeds: Sequence[int] = (1, 2, 3),
    out: str | Path = "runs/suite",
    *,
    overrides: Mapping[str, Any] | None = None,
    parallel: int = 1,
    episodes: int = 100,
    checkpoint: Checkpoint = "latest",
    trust_imports: bool = False,
) -> SuiteResults:
    """Trains every recipe on every game with every seed, evaluates each run, and writes tables and a page into ``out``.

    A second call goes on where the first one stopped. A failed run is a row that says so. A signal is passed on to the
    runs, which are saved; then the signal is raised again for the program's own handler.

    Args:
      recipes: names of recipes, files, or a mapping from names to recipes.
      games: the games; empty for each recipe's own game.
      seeds: the seeds.
      out: folder of the runs and the results.
      overrides: values by key that replace the recipes' values, such as ``{"run.budget_agent_steps": 1_000_000}``.
      parallel: runs at a time, among which the cores are divided.
      episodes: whole games of each evaluation; 0 for no evaluation.
      checkpoint: which checkpoint is evaluated, ``"latest"`` or ``"best"``.
      trust_imports: whether to import the modules that the recipes name, which runs their code.

    Raises:
      UserError: a recipe or a setting is wrong, or a folder holds a run with other settings.
    """
    sources = recipes.items() if isinstance(recipes, Mapping) else [(_name(str(one)), one) for one in recipes]
    configs = []
    for name, source in sources:
        for game in games or ("",):
            own = {**(overrides or {}), **({"env.game": game} if game else {})}
            configs.append((name, open_recipe(source, own, trust_imports=trust_imports)))
    runs = _runs(configs, seeds, Path(out), episodes, checkpoint)
    with signals_raised_again() as stop:
        return _run(runs, Path(out), parallel, stop)


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code: 0, 1 where a run failed, or 128 plus the number of a signal."""
    edge = list(argv).index("--") if "--" in argv else len(argv)
    asked = parse("suite", argv[:edge], SuiteArguments())
    if not asked.recipes:
        raise UserError("which recipes? give one or more, such as atari")
    flags = [*argv[edge + 1 :], *trust_flags(asked.imports, asked.trust_imports)]
    if asked.budget_agent_steps:
        flags += ["--run.budget-agent-steps", str(asked.budget_agent_steps)]
    if asked.budget_seconds:
        flags += ["--run.budget-seconds", str(asked.budget_seconds)]
    configs = [
        (_name(recipe), parse_train([recipe, *(["--env.game", game] if game else []), *flags]).config)
        for recipe in asked.recipes
        for game in asked.games or ("",)
    ]
    out = Path(asked.out)
    runs = _runs(configs, asked.seeds, out, asked.episodes, asked.checkpoint)
    with signals_heard() as stop:
        results = _run(runs, out, asked.parallel, stop)
    if stop.signal is not None:
        return 128 + stop.signal
    return 1 if any(row.failure for row in results.rows) else 0


def _name(recipe: str) -> str:
    """The name of a recipe in the results: that of its file, or its own."""
    return recipe.removesuffix(".yaml").rpartition("/")[2] or "recipe"


def _runs(
    configs: Sequence[tuple[str, Config]],
    seeds: Sequence[int],
    out: Path,
    episodes: int,
    checkpoint: Checkpoint,
) -> list[SuiteRun]:
    """Makes the runs: each configuration with each seed. Raises UserError where two would share a folder."""
    runs: dict[str, SuiteRun] = {}
    if episodes < 0:
        raise UserError(f"episodes: from 0, not {episodes}")
    for recipe, config in configs:
        for seed in seeds:
            game = config.env.game.replace("/", "_")  # as in gfootball/academy_corner-v1
            folder = out / f"{recipe}-{game}-{seed}"
            if folder.name in runs:
                raise UserError(f"{folder.name}: two runs would have this name; name each recipe, game and seed once")
            training = Training(folder, with_overrides(config, {"run.seed": seed, "run.dir": ""}))
            runs[folder.name] = SuiteRun(recipe, training, episodes, checkpoint)
    if not runs:
        raise UserError("seeds: give one or more, such as --seeds 1 2 3")
    return list(runs.values())


def _run(runs: Sequence[SuiteRun], out: Path, parallel: int, stop: Stop) -> SuiteResults:
    """Runs whatever is not done yet, and writes the results after each run."""
    if not 1 <= parallel <= MAX_PARALLEL:
        raise UserError(f"parallel: from 1 to {MAX_PARALLEL}, not {parallel}")
    refuse_links(out)
    try_to_write(out, out)
    for run in runs:
        run.training.check()
    processes, failures = Processes(parallel), dict[str, str]()
    for run in runs:
        processes.add(run)
    stop.note_signals()
    stop.keep()
    say(f"jaxpg: {len(runs)} run{'s' if len(runs) > 1 else ''}, {parallel} at a time, in {out}")
    progress = _Progress(runs, processes)

    def heed(ended: Ended) -> None:
        (run,) = [run for run in runs if run is ended.work]
        if ended.failure:
            failures[run.name] = ended.failure
            say(f"jaxpg: {run.name}: failed: {ended.failure}; its output is in {run.log}", error=True)
        progress.say_end(run, ended)
        _write(runs, failures, out)

    run_until_idle(processes, stop, heed, progress.look)
    results = _write(runs, failures, out)
    if stop.signal is None:
        make_page(out, ["--out", str(out / "suite.html"), "--png", str(out / "charts")], out / "suite.log", stop)
        outcome = f"{len(runs) - len(failures)} of {len(runs)} runs without a failure"
    else:
        outcome = f"{progress.num_ended} of {len(runs)} runs ended, and the same command goes on with the others"
    say(f"jaxpg: {outcome}; the results are in {out}")
    return results


class _Progress:
    """Says how far the runs are: a line at the end of each, and one a minute about those that run."""

    def __init__(self, runs: Sequence[SuiteRun], processes: Processes):
        self._num_runs, self._processes = len(runs), processes
        self.num_ended = 0
        self._said_at = time.monotonic()

    def say_end(self, run: SuiteRun, ended: Ended) -> None:
        self.num_ended += 1
        row = run.row(ended.failure)
        scores = [f"{actions}={score.mean:.2f}" for actions, score in row.scores.items()]
        counts = f"runs={self.num_ended} of={self._num_runs}"
        steps = f"agent_steps={row.agent_steps} seconds={row.seconds:.0f}"
        say(" ".join([counts, f"run={run.name}", f"failed={'yes' if ended.failure else 'no'}", steps, *scores]))

    def look(self) -> None:
        if time.monotonic() - self._said_at < SECONDS_BETWEEN_LINES:
            return
        self._said_at = time.monotonic()
        for run in self._processes.running:
            assert isinstance(run, SuiteRun)
            points = run.training.points()
            if points:
                last = points[-1]
                mean = "-" if last.return_mean_100 is None else f"{last.return_mean_100:.2f}"
                say(f"running={run.name} agent_steps={last.agent_steps:.0f} return_mean_100={mean}")


def _write(runs: Sequence[SuiteRun], failures: Mapping[str, str], out: Path) -> SuiteResults:
    """Writes the results as JSON and Markdown. Runs that have not begun are rows without scores."""
    rows = [run.row(failures.get(run.name)) for run in runs]
    results = SuiteResults(episodes=max(runs[0].episodes, 1), checkpoint=runs[0].checkpoint, rows=rows)
    try:
        write_suite(out / SUITE_FILE, results)
        write_text(out / "suite.md", markdown(rows, results.episodes, results.checkpoint))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule
