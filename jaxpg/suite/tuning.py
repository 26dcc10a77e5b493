"""Searches for settings: the command ``python -m jaxpg.tune`` and the function ``jaxpg.tune``."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from jaxpg.cli import open_recipe, parse, parse_train, trust_flags
from jaxpg.config import Config, with_overrides
from jaxpg.core.errors import FaultError, UserError
from jaxpg.machine.console import say
from jaxpg.machine.signals import Stop, signals_heard, signals_raised_again
from jaxpg.scores.study_file import StudyResults
from jaxpg.suite.goal import Goal, OverSeeds, Score
from jaxpg.suite.space import Space, space_from_file, space_from_mapping, space_from_words
from jaxpg.suite.study import Pruner, RunningTrial, Sampler, Study, import_optuna
from jaxpg.suite.trained_folder import Training, return_at
from jaxpg.suite.works import Ended, Processes, Work, make_page, run_until_idle

REPORTS = 20
"""How often a trial may be pruned: each time its runs have done another twentieth of the budget."""
SECONDS_BETWEEN_REPORTS = 5.0
SECONDS_BETWEEN_LINES = 60.0
MOST_FAULTS = 3
"""How many trials in a row may fail for reasons of the machine before the search ends."""
MAX_PROCESSES = 256


@dataclasses.dataclass(frozen=True)
class TuneArguments:
    """Searches for settings of a recipe: several seeds a trial, bad trials are given up early.

    The same command goes on where it stopped, and several processes of it may work on one study. Flags of
    python -m jaxpg.train that all runs get come after a --. Needs Optuna, which jaxpg's extra named tune installs.
    """

    POSITIONAL: ClassVar[str] = "recipe"
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[RECIPE.yaml]")] = ""
    """YAML recipe: a file, or the name of a recipe that comes with jaxpg, such as pong."""
    space: tuple[str, ...] = ()
    """Settings that vary: SETTING=LOW:HIGH, SETTING=LOW:HIGH:STEP, SETTING=log:LOW:HIGH, or SETTING=A,B,C."""
    search: str = ""
    """YAML file with the settings that vary, in place of --space: a list of values, or low, high, step and log."""
    trials: int = 40
    """Trials of the whole study."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of each trial, which run at the same time."""
    study: str = ""
    """Folder of the study; empty for runs/tune/RECIPE."""
    score: Score = "last"
    """Score of a seed: last (mean return over the last quarter of the budget), final (mean return of the last 100 games
    at the end), area (mean return over the whole budget), or steps (agent steps to the target; fewer are better)."""
    over_seeds: OverSeeds = "mean"
    """What counts of the seeds' scores: their mean, the worst or the median."""
    target: float | None = None
    """Mean return of 100 games that the score steps waits for; by default the recipe's run.target_return."""
    budget_agent_steps: int = 0
    """Agent steps of each run; 0 for the recipe's budget."""
    workers: int = 1
    """Trials at a time."""
    parallel: int = 0
    """Runs at a time, among which the cores are divided; 0 for all seeds of all workers, so that the seeds of a trial
    advance together and a bad trial is given up early."""
    prune: Pruner = "median"
    """When a trial is given up: if its return is below the median of the others after as many agent steps (median), if
    it is not in the better half at an eighth, a quarter and half of the budget (halving), or never (none)."""
    sampler: Sampler = "tpe"
    """How settings are chosen: by Optuna's tree-structured Parzen estimator (tpe), or at random."""
    sampler_seed: int = 0
    """Seed of the choice of settings."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the runs use, in place of those that the recipe names."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether to import the modules that the recipe names in imports, which runs their code."""


def tune(
    recipe: str | Path | Mapping[str, Any],
    space: Mapping[str, Any],
    study: str | Path,
    *,
    trials: int = 40,
    seeds: Sequence[int] = (1, 2, 3),
    score: Score = "last",
    over_seeds: OverSeeds = "mean",
    target: float | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 1,
    parallel: int = 0,
    prune: Pruner = "median",
    sampler: Sampler = "tpe",
    sampler_seed: int = 0,
    trust_imports: bool = False,
) -> StudyResults:
    """Searches for settings of a recipe, and writes the best ones as ``best.yaml`` into the folder of the study.

    A second call goes on where the first one stopped. A signal is passed on to the runs, which are saved; then the
    signal is raised again for the program's own handler.

    Args:
      recipe: the name of a recipe, a file, or a mapping.
      space: for each setting that varies a list of values, or a mapping with ``low``, ``high``, ``step`` and ``log``.
      study: the folder of the study.
      trials: trials of the whole study.
      seeds: the seeds of each trial.
      score: the score of a seed: ``"last"``, ``"final"``, ``"area"`` or ``"steps"``.
      over_seeds: what counts of the seeds' scores: ``"mean"``, ``"worst"`` or ``"median"``.
      target: mean return of 100 games that ``"steps"`` waits for; None for the recipe's target.
      overrides: values by key that replace the recipe's values.
      workers: trials at a time.
      parallel: runs at a time; 0 for all seeds of all workers.
      prune: when trials are given up: ``"median"``, ``"halving"`` or ``"none"``.
      sampler: how settings are chosen: ``"tpe"`` or ``"random"``.
      sampler_seed: seed of that choice.
      trust_imports: whether to import the modules that the recipe names, which runs their code.

    Raises:
      UserError: Optuna is missing, a setting is wrong, or the folder holds a study of something else.
      FaultError: several trials in a row failed for reasons of the machine.
    """
    config = open_recipe(recipe, overrides, trust_imports=trust_imports)
    asked = TuneArguments(
        trials=trials,
        seeds=tuple(seeds),
        score=score,
        over_seeds=over_seeds,
        target=target,
        workers=workers,
        parallel=parallel,
        prune=prune,
        sampler=sampler,
        sampler_seed=sampler_seed,
    )
    with signals_raised_again() as stop:
        return _tune(config, space_from_mapping(space, config), asked, Path(study), stop)


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code: 0, or 128 plus the number of a signal."""
    edge = list(argv).index("--") if "--" in argv else len(argv)
    asked = parse("tune", argv[:edge], TuneArguments())
    import_optuna()
    flags = [*argv[edge + 1 :], *trust_flags(asked.imports, asked.trust_imports)]
    if asked.budget_agent_steps:
        flags += ["--run.budget-agent-steps", str(asked.budget_agent_steps)]
    config = parse_train([*([asked.recipe] if asked.recipe else []), *flags]).config
    if bool(asked.search) == bool(asked.space):
        raise UserError("what varies? give either --space SETTING=VALUES ... or --search FILE.yaml")
    space = space_from_file(Path(asked.search), config) if asked.search else space_from_words(asked.space, config)
    name = asked.recipe.removesuffix(".yaml").rpartition("/")[2] or config.env.game
    folder = Path(asked.study or f"runs/tune/{name}")
    with signals_heard() as stop:
        _tune(config, space, asked, folder, stop)
    return 0 if stop.signal is None else 128 + stop.signal


def _tune(config: Config, space: Space, asked: TuneArguments, folder: Path, stop: Stop) -> StudyResults:
    """Checks the arguments, runs the search, and writes its page."""
    config, goal = _rated(with_overrides(config, {"run.dir": ""}), asked)
    if not asked.seeds or len(set(asked.seeds)) != len(asked.seeds):
        raise UserError("seeds: give one or more, each once, such as --seeds 21 22 23")
    for seed in asked.seeds:
        with_overrides(config, {"run.seed": seed})
    processes = asked.parallel or asked.workers * len(asked.seeds)
    for name, number in (("trials", asked.trials), ("workers", asked.workers), ("parallel", processes)):
        if number < 1 or (name != "trials" and number > MAX_PROCESSES):
            raise UserError(f"{name}: from 1{'' if name == 'trials' else f' to {MAX_PROCESSES}'}, not {number}")
    study = Study(
        folder,
        config,
        space,
        asked.seeds,
        goal,
        sampler=asked.sampler,
        sampler_seed=asked.sampler_seed,
        pruner=asked.prune,
    )
    stop.note_signals()
    stop.keep()
    say(f"jaxpg: a study in {folder}; the value of a trial is the {goal.in_words(asked.seeds)}")
    search = Search(study, Processes(processes), asked.trials, asked.workers)
    search.run(stop)
    results = study.write()
    if stop.signal is None:
        make_page(folder, ["--out", str(folder / "tune.html")], folder / "tune.log", stop)
    _say_best(results, folder)
    return results


def _rated(config: Config, asked: TuneArguments) -> tuple[Config, Goal]:
    """Returns the configuration and the goal. Runs that are rated by the way to a target end there."""
    target = asked.target
    if asked.score == "steps":
        target = config.run.target_return if target is None else target
        if target is None:
            raise UserError("target: the score steps needs a mean return to reach, such as --target 18")
        config = with_overrides(config, {"run.target_return": target})
    elif target is not None:
        raise UserError("target: only the score steps has one; a target at which runs end is run.target_return")
    return config, Goal(asked.score, asked.over_seeds, config.run.budget_agent_steps, target)


class Search:
    """The trials of this process.

    Args:
      study: the study.
      processes: runs the trainings.
      trials: trials of the whole study.
      workers: trials at a time.
    """

    def __init__(self, study: Study, processes: Processes, trials: int, workers: int):
        self._study, self._processes, self._most, self._workers = study, processes, trials, workers
        self._active: list[RunningTrial] = []
        self._faults = 0  # trials in a row that failed for reasons of the machine
        self._looked_at = self._said_at = time.monotonic()

    def run(self, stop: Stop) -> None:
        """Works on trials until the study has enough of them or a signal arrives. Interrupted trials stay running.

        Raises:
          FaultError: several trials in a row failed for reasons of the machine.
        """
        self._fill()
        try:
            run_until_idle(self._processes, stop, self._heed, self._look)
        finally:
            for trial in self._active:
                trial.lock.release()

    def _fill(self) -> None:
        """Takes trials until enough are at work."""
        while len(self._active) < self._workers and (trial := self._study.take(self._most)):
            self._active.append(trial)
            for training in trial.trainings.values():
                training.check()
                self._processes.add(_Run(training))
            say(f"jaxpg: trial {trial.number}: {_in_words(trial.params)}")

    def _heed(self, ended: Ended) -> None:
        found = self._trial_of(ended.work)
        if found is None:
            return  # another seed failed at the same time, and the trial has ended
        trial, seed = found
        if ended.failure:
            is_fault = ended.exit_code != 2  # 2 is the user's mistake: the settings, here those of the trial
            self._end(trial, f"seed {seed}: {ended.failure}", "failed" if is_fault else "pruned")
        else:
            trial.over.add(seed)
            if len(trial.over) == len(trial.trainings):
                self._report(trial)
                self._complete(trial)
        if self._faults >= MOST_FAULTS:
            raise FaultError(f"{MOST_FAULTS} trials in a row failed, the last one with {ended.failure}; see its log")
        self._fill()

    def _look(self) -> None:
        """Reports the returns so far, and gives up trials that are worse than others."""
        if time.monotonic() - self._looked_at < SECONDS_BETWEEN_REPORTS:
            return
        self._looked_at = time.monotonic()
        for trial in list(self._active):
            pruned_at = self._report(trial)
            if pruned_at is not None:
                self._end(trial, f"worse than others after {pruned_at:,} agent steps", "pruned")
        self._fill()
        if time.monotonic() - self._said_at >= SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            for trial in self._active:
                self._say_progress(trial)

    def _report(self, trial: RunningTrial) -> int | None:
        """Stores the trial's returns that are new; returns the agent steps at which it should be given up, if any.

        A return counts as soon as all seeds have done as many agent steps, or are over.
        """
        goal = self._study.goal
        points = {seed: training.points() for seed, training in trial.trainings.items()}
        for number in range(1, REPORTS + 1):
            agent_steps = goal.budget_agent_steps * number // REPORTS
            done = all(
                seed in trial.over or (known and known[-1].agent_steps >= agent_steps) for seed, known in points.items()
            )
            if not done:
                return None
            returns = [return_at(known, agent_steps) for known in points.values()]
            if agent_steps in trial.reported or None in returns:
                continue
            value = goal.value_of([one for one in returns if one is not None])
            if self._study.report(trial, agent_steps, value) and len(trial.over) < len(trial.trainings):
                return agent_steps
        return None

    def _say_progress(self, trial: RunningTrial) -> None:
        """Says how far each seed is."""
        words = []
        for seed, training in trial.trainings.items():
            points = training.points()
            mean = points[-1].return_mean_100 if points else None
            agent_steps = points[-1].agent_steps if points else 0
            words.append(f"{seed}:{agent_steps:.0f}:{'-' if mean is None else f'{mean:.4g}'}")
        say(f"running={trial.number} seeds_agent_steps_returns={','.join(words)}")

    def _complete(self, trial: RunningTrial) -> None:
        scores = {seed: self._study.goal.score_of(training.points()) for seed, training in trial.trainings.items()}
        known = {seed: score for seed, score in scores.items() if score is not None}
        if len(known) < len(scores):
            self._end(trial, "no game ended, so that there is no return", "pruned")
            return
        self._active.remove(trial)
        self._faults = 0
        value = self._study.complete(trial, known)
        seeds = ",".join(f"{seed}:{score:.6g}" for seed, score in known.items())
        self._say_end(trial, "complete", f"value={value:.6g} scores={seeds}")

    def _end(self, trial: RunningTrial, reason: str, state: str) -> None:
        """Ends a trial before all of its seeds are over."""
        self._processes.end([work for work in self._processes.works if self._is_of(work, trial)])
        self._active.remove(trial)
        self._faults = self._faults + 1 if state == "failed" else 0
        self._study.give_up(trial, reason, is_fault=state == "failed")
        if state == "failed":
            say(f"jaxpg: trial {trial.number} failed: {reason}; its output is in {self._study.folder}", error=True)
        self._say_end(trial, state, f"reason={reason!r}")

    def _say_end(self, trial: RunningTrial, state: str, words: str) -> None:
        results = self._study.write()
        over = sum(one.state in ("complete", "pruned") for one in results.trials)
        best = next((one for one in results.trials if one.number == results.best), None)
        best_words = "" if best is None else f" best={best.number} best_value={best.value:.6g}"
        say(f"trials={over} of={self._most} trial={trial.number} state={state} {words}{best_words}")

    def _trial_of(self, work: Work) -> tuple[RunningTrial, int] | None:
        for trial in self._active:
            for seed, training in trial.trainings.items():
                if isinstance(work, _Run) and work.training is training:
                    return trial, seed
        return None

    def _is_of(self, work: Work, trial: RunningTrial) -> bool:
        return isinstance(work, _Run) and any(work.training is one for one in trial.trainings.values())


@dataclasses.dataclass(eq=False)
class _Run:
    """The training of one seed as a work."""

    training: Training

    @property
    def log(self) -> Path:
        return self.training.log

    def next_command(self) -> list[str] | None:
        return self.training.command()


def _in_words(params: Mapping[str, Any]) -> str:
    return " ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )


def _say_best(results: StudyResults, folder: Path) -> None:
    best = next((one for one in results.trials if one.number == results.best), None)
    if best is None:
        say(f"jaxpg: no trial is complete; the study is in {folder}")
        return
    say(f"jaxpg: trial {best.number} is the best with {best.value:.6g}; its recipe is {folder / 'best.yaml'}")
