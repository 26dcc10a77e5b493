"""A study: trials in an Optuna storage, which survives kills and which several processes share.

The storage is one SQLite file. A running trial holds a lock in its folder, which the system releases however its
process ends. So a trial that the storage calls running and whose lock is free was interrupted, and the next process
that looks for work goes on with it. (Optuna's heartbeats would need minutes to notice the same.)
"""

import json
import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from jaxpg.config import Config, dump, flatten, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.machine.durable_files import refuse_links, try_to_write, write_text
from jaxpg.scores.study_file import STUDY_FILE, StudyResults, StudyTrial, write_study
from jaxpg.suite.goal import Goal
from jaxpg.suite.space import Choice, Space, overrides_of, params_of
from jaxpg.suite.trained_folder import Training

if TYPE_CHECKING:
    import optuna

NAME = "jaxpg"
OPTUNA = "optuna>=5,<6"
"""The extra ``tune`` of jaxpg."""
ABOUT, SCORES, REASON = "about", "scores", "reason"
"""Attributes of the study and of its trials."""
SECONDS_TO_WAIT = 60.0
"""How long a process waits for another one that writes the storage."""
Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "halving", "none"]
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def _close(storage: "optuna.storages.RDBStorage") -> None:
    """Closes the connections to the storage's file."""
    storage.remove_session()
    storage.engine.dispose()


def import_optuna() -> Any:
    """Imports Optuna and silences it. Raises UserError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"jaxpg tune needs Optuna, which is not installed; pip install '{OPTUNA}'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass(eq=False)
class RunningTrial:
    """A trial that this process works on."""

    number: int
    storage_id: int
    config: Config
    params: dict[str, Any]
    trainings: dict[int, Training]
    """The training of each seed."""
    lock: FileLock
    over: set[int] = field(default_factory=set)
    """Seeds whose training is over."""
    reported: set[int] = field(default_factory=set)
    """Agent steps at which the return was reported."""


class Study:
    """The study in a folder; creates it if it does not exist.

    Args:
      folder: the folder of the study.
      config: the configuration in which settings vary.
      space: the settings that vary.
      seeds: the seeds of each trial.
      goal: how trials are rated.
      sampler: which settings are tried next: those that Optuna's tree-structured Parzen estimator proposes, or random.
      sampler_seed: seed of the sampler.
      pruner: which trials are given up.

    Raises:
      UserError: the folder holds a study of something else, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        space: Space,
        seeds: Sequence[int],
        goal: Goal,
        *,
        sampler: Sampler = "tpe",
        sampler_seed: int = 0,
        pruner: Pruner = "median",
    ):
        self._optuna = library = import_optuna()
        self.folder, self._config, self._space, self.seeds, self.goal = folder, config, space, list(seeds), goal
        refuse_links(folder)
        try_to_write(folder, folder)
        self._lock = FileLock(folder / "lock", timeout=SECONDS_TO_WAIT)
        place = f"sqlite:///{(folder / 'study.db').absolute()}"
        try:
            with self._lock:
                _refuse_programs(folder / "study.db")
                connect = {"connect_args": {"timeout": SECONDS_TO_WAIT}}
                self._storage = library.storages.RDBStorage(place, engine_kwargs=connect)
                weakref.finalize(self, _close, self._storage)
                self._study: optuna.Study = library.create_study(
                    storage=self._storage, study_name=NAME, direction="maximize", load_if_exists=True
                )
                self._study_id = self._storage.get_study_id_from_name(NAME)
                self._check_about()
                self._check_trials()
                count = len(self._study.trials)
        except Timeout as error:
            raise UserError(f"{folder}: another process holds the study; end it first, or wait") from error
        except Exception as error:  # SQLAlchemy's errors, whose package is no dependency of jaxpg
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder}/study.db: no study that can be read; move it away to begin a new one") from error
        self._study.sampler = _sampler(library, sampler, sampler_seed + count)
        self._study.pruner = _pruner(library, pruner, goal.budget_agent_steps)

    def take(self, most: int) -> RunningTrial | None:
        """Takes an interrupted trial, or a new one while fewer than ``most`` have begun. None where there is none."""
        states = self._optuna.trial.TrialState
        with self._lock:
            for frozen in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
                if taken := self._take(frozen):
                    return taken
            begun = (states.COMPLETE, states.PRUNED, states.RUNNING)
            while len(self._study.get_trials(deepcopy=False, states=begun)) < most:
                trial = self._study.ask(_distributions(self._optuna, self._space))
                frozen = self._storage.get_trial(self._id(trial.number))
                if not self._tell_again(frozen) and (taken := self._take(frozen)):
                    return taken
        return None

    def report(self, trial: RunningTrial, agent_steps: int, value: float) -> bool:
        """Stores the return of all seeds after so many agent steps; returns whether the trial should be given up."""
        self._storage.set_trial_intermediate_value(trial.storage_id, agent_steps, value)
        trial.reported.add(agent_steps)
        return bool(self._study.pruner.prune(self._study, self._storage.get_trial(trial.storage_id)))

    def complete(self, trial: RunningTrial, scores: Mapping[int, float]) -> float:
        """Ends a trial whose seeds all have a score; returns its value."""
        value = self.goal.value_of(list(scores.values()))
        self._storage.set_trial_user_attr(trial.storage_id, SCORES, {str(seed): x for seed, x in scores.items()})
        self._study.tell(trial.number, value)
        trial.lock.release()
        return value

    def give_up(self, trial: RunningTrial, reason: str, *, is_fault: bool = False) -> None:
        """Ends a trial without a value.

        Args:
          trial: the trial.
          reason: why it ends.
          is_fault: whether the settings have nothing to do with it. Otherwise the sampler avoids them from now on.
        """
        states = self._optuna.trial.TrialState
        self._storage.set_trial_user_attr(trial.storage_id, REASON, reason)
        self._study.tell(trial.number, state=states.FAIL if is_fault else states.PRUNED)
        trial.lock.release()

    def results(self) -> StudyResults:
        """The trials so far."""
        trials = self._study.get_trials(deepcopy=False)
        complete = [one for one in trials if one.state.name == "COMPLETE"]
        best = max(complete, key=lambda one: (one.value, -one.number)).number if complete else None
        return StudyResults(
            about=self.goal.in_words(self.seeds),
            seeds=self.seeds,
            settings=list(self._space),
            logarithmic=[key for key, one in self._space.items() if not isinstance(one, Choice) and one.log],
            best=best,
            trials=[self._row(one) for one in trials if one.state.name != "WAITING"],
        )

    def write(self) -> StudyResults:
        """Writes ``study.json`` and the recipe of the best trial, ``best.yaml``; returns the trials so far."""
        with self._lock:
            results = self.results()
            write_study(self.folder / STUDY_FILE, results)
            if results.best is not None:
                best = next(one for one in results.trials if one.number == results.best)
                about = f"# Trial {best.number} of a study: {best.value:g}, the {results.about}.\n"
                write_text(self.folder / "best.yaml", about + dump(with_overrides(self._config, best.settings)))
        return results

    def _id(self, number: int) -> int:
        """The storage's own number of a trial."""
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))

    def _row(self, frozen: "optuna.trial.FrozenTrial") -> StudyTrial:
        attributes = frozen.user_attrs
        is_complete = frozen.state.name == "COMPLETE"
        return StudyTrial(
            number=frozen.number,
            state=STATES[frozen.state.name],
            settings=overrides_of(self._space, frozen.params),
            value=frozen.value if is_complete else None,
            reason=attributes.get(REASON),
            scores=attributes.get(SCORES, {}),
            curve=[(float(step), value) for step, value in sorted(frozen.intermediate_values.items())],
        )

    def _take(self, frozen: "optuna.trial.FrozenTrial") -> RunningTrial | None:
        """Takes a trial unless another process works on it."""
        folder = self.folder / "trials" / f"{frozen.number:04}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        storage_id = self._id(frozen.number)
        params = dict(frozen.params)
        try:
            config = with_overrides(self._config, overrides_of(self._space, params))
        except UserError as error:  # the values do not fit together
            taken = RunningTrial(frozen.number, storage_id, self._config, params, {}, lock)
            self.give_up(taken, str(error))
            return None
        trainings = {
            seed: Training(folder / f"seed{seed}", with_overrides(config, {"run.seed": seed})) for seed in self.seeds
        }
        return RunningTrial(frozen.number, storage_id, config, params, trainings, lock)

    def _tell_again(self, frozen: "optuna.trial.FrozenTrial") -> bool:
        """Gives a trial the value of an earlier one with the same settings, because a run is a function of them."""
        for other in self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.COMPLETE,)):
            if other.params == frozen.params:
                for name, content in other.user_attrs.items():
                    self._storage.set_trial_user_attr(self._id(frozen.number), name, content)
                self._study.tell(frozen.number, other.value)
                return True
        return False

    def _check_trials(self) -> None:
        """Raises an error where a trial of the storage, which may be a stranger's, is none that a study makes.

        The number of a trial is the name of its folder.
        """
        for number, frozen in enumerate(self._study.get_trials(deepcopy=False)):
            if frozen.number != number:
                raise ValueError(f"trial {frozen.number!r} stands in the place of trial {number}")
            self._row(frozen)

    def _check_about(self) -> None:
        """Stores what the study is about, or compares it with what is stored."""
        about = _about(self._config, self._space, self.seeds, self.goal)
        there = self._study.user_attrs.get(ABOUT)
        if there is None:
            self._study.set_user_attr(ABOUT, about)
            own = params_of(self._space, self._config)
            if own is not None:
                self._study.enqueue_trial(own)
            return
        for key in {**there, **about}:
            if there.get(key) != about.get(key):
                raise UserError(
                    f"{self.folder}: a study of something else: its {key} is {there.get(key)!r}, not "
                    f"{about.get(key)!r}; choose another folder with --study"
                )


def _refuse_programs(path: Path) -> None:
    """Raises ValueError where the SQLite file has triggers, views or virtual tables, which SQLite runs when asked."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as file:
        parts = file.execute("SELECT type, sql FROM sqlite_master").fetchall()
    if any(kind not in ("table", "index") or "VIRTUAL" in str(sql).upper() for kind, sql in parts):
        raise ValueError("the storage has more than tables")


def _about(config: Config, space: Space, seeds: Sequence[int], goal: Goal) -> dict[str, Any]:
    """What must be the same whenever a study goes on, as JSON."""
    settings = {key: value for key, value in flatten(config).items() if key not in ("run.dir", "run.seed")}
    ranges = {f"space of {key}": vars(dimension) for key, dimension in space.items()}
    about = {**settings, **ranges, "seeds": list(seeds), "score": goal.score, "over seeds": goal.over_seeds}
    about["target"] = goal.target
    return dict(json.loads(json.dumps(about)))


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, one in space.items():
        if isinstance(one, Choice):
            made[key] = optuna.distributions.CategoricalDistribution(list(one.labels))
        elif one.is_integer:
            low, high, step = int(one.low), int(one.high), int(one.step or 1)
            high -= (high - low) % step  # Optuna warns of a range that its step does not divide
            made[key] = optuna.distributions.IntDistribution(low, high, log=one.log, step=step)
        else:
            made[key] = optuna.distributions.FloatDistribution(one.low, one.high, log=one.log, step=one.step)
    return made


def _sampler(optuna: Any, name: Sampler, seed: int) -> Any:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)


def _pruner(optuna: Any, name: Pruner, budget_agent_steps: int) -> Any:
    match name:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=budget_agent_steps // 5)
        case "halving":
            first = max(budget_agent_steps // 8, 1)
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
        case "none":
            return optuna.pruners.NopPruner()
