"""What one process does for a run from its start to its end: folder, lock, training, videos and summary."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxpg.config import Config
from jaxpg.core.errors import FaultError
from jaxpg.core.user_modules import own_code
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.rollout import FROM_PYTHON
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import write_json
from jaxpg.machine.signals import Stop
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.parallel.team import Team
from jaxpg.run.lock import only_trainer
from jaxpg.run.profile import Profile, check_profile
from jaxpg.run.progress_display import make_display
from jaxpg.run.recorder import Recorder
from jaxpg.run.run_folder import SUMMARY, begin_anew, new_run_folder, take_end_away, write_config, write_resumed_config
from jaxpg.run.run_progress import WINDOW_EPISODES, RunProgress
from jaxpg.run.trackers.tracker import Tracker, check_installed, finish
from jaxpg.run.training import Callback, Training
from jaxpg.run.watchdog import watched
from jaxpg.run.writers import WRITERS, Writer


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the caller asks of a run besides its configuration."""

    resume: str = ""
    """Run folder to resume; empty for a new run."""
    writers: Sequence[Writer] = ()
    """Writers in addition to those that the configuration names."""
    callbacks: Sequence[Callback] = ()
    """Functions that are called after each iteration."""
    profile: tuple[int, int] | None = None
    """First and last iteration to profile; None for no profile."""
    bar: bool = False
    """Whether a bar on the terminal shows the progress; otherwise lines of the log show it."""
    about: Sequence[str] = ("no recipe",)
    """Which recipe was chosen, followed by remarks about it, each a sentence without its full stop."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended, and how far it came."""

    folder: Path
    """The run folder."""
    ended: str
    """Why the run ended, as in ``summary.json``."""
    signal: int | None
    """Number of the signal that ended the run; None where no signal did."""
    fault: bool
    """Whether emulators failed."""
    unsaved: str | None
    """Why the end of the run could not be saved; None where it is saved."""
    iterations: int
    agent_steps: int
    """Agent steps of all lanes."""
    episodes: int
    wall_seconds: float
    """Seconds of training, including those before the run was resumed."""
    return_mean_100: float | None
    """Mean return of the last 100 episodes, or of all while there are fewer; in a population the mean over its members.
    """
    metrics: dict[str, float]
    """The newest value of each of the learner's metrics."""
    members: tuple[float | None, ...] = ()
    """Mean return of the last 100 episodes of each member of a population."""


def run_session(config: Config, experiment: Experiment, team: Team, stop: Stop, wishes: Wishes) -> TrainResult:
    """Trains until the budget, the target, a callback or a signal ends the run, and writes the run folder.

    Args:
      config: the configuration of the run.
      experiment: the policy, learner and emulators of the run.
      team: the devices and processes that work on the run; every process calls this function.
      stop: notes the signals that the process receives.
      wishes: what else the caller asks for.

    Raises:
      UserError: the folder cannot be used, the checkpoint does not fit, or a number became infinite or NaN.
      FaultError: emulators failed in one of several processes.
    """
    team.lead(lambda: check_installed(config.run.writers))
    team.lead(lambda: check_profile(wishes.profile))
    folder = Path(wishes.resume or team.lead(lambda: str(new_run_folder(config))))
    trackers: list[Tracker] = []
    with ExitStack() as locks:
        team.lead(lambda: locks.enter_context(only_trainer(folder)))
        locks.callback(finish, trackers)
        if not wishes.resume:
            team.lead(lambda: begin_anew(folder))
            team.lead(lambda: write_config(folder, config))
        if team.leads:
            recipe, *about_recipe = wishes.about
            say(_introduction(config, experiment, team, recipe, folder))
            for remark in (*about_recipe, *experiment.remarks):
                say(f"jaxpg: {remark}")
        with said_while_waiting("reading the newest checkpoint" if wishes.resume else "making the first weights"):
            training = Training(
                config,
                folder,
                experiment,
                team,
                resume=bool(wishes.resume),
                make_writers=_writers(config, folder, _stage(experiment), wishes, trackers),
                callbacks=wishes.callbacks,
            )
        if wishes.profile and team.leads:
            profile = Profile(folder / "profile", *wishes.profile, training.progress.iteration)
            locks.callback(profile.close)
            training.callbacks.append(profile)
        if wishes.resume:
            agent_steps = training.progress.agent_steps  # by now the new configuration is known to fit the checkpoint
            team.lead(lambda: write_resumed_config(folder, config, agent_steps))
            team.lead(lambda: take_end_away(folder))
        ended, fault = _train(training, stop)
    unsaved = training.unsaved
    if unsaved:
        say(f"jaxpg: {folder}: the end of the run is not on the disk: {unsaved}", error=True)
    elif others := [one for one in team.gather(unsaved) if one]:
        unsaved = others[0]
    return _result(training, ended, stop, fault=fault, unsaved=unsaved)


def _train(training: Training, stop: Stop) -> tuple[str, bool]:
    """Runs the training; returns why it ended, and whether its emulators failed."""
    team, folder, fault = training.team, training.folder, False
    save = training.save if team.num_processes == 1 else _cannot_save
    with closing(Recorder(folder)) as recorder:
        timeout_seconds = training.config.env.timeout_seconds
        with closing(training), watched(training.experiment.fleet, timeout_seconds, save):
            try:
                ended = training.run(stop, recorder)
            except FaultError as error:
                if team.num_processes > 1:
                    raise  # this ends the process, and then the others end too
                fault, ended = True, str(error)
                say(f"jaxpg: {folder}: {ended}", error=True)
                training.save()
        if team.leads:
            _say_end(training, ended, "ended by a fault" if fault else ended)  # the fault itself was said above
        if not fault:
            _wait_for_videos(recorder, folder, stop)
    return ended, fault


def _writers(
    config: Config, folder: Path, stage: Sequence[str], wishes: Wishes, trackers: list[Tracker]
) -> Callable[[RunProgress], list[Writer]]:
    def make(progress: RunProgress) -> list[Writer]:
        named = []
        for name in config.run.writers:
            with own_code(f"run.writers: {name!r}", WRITERS[name], "__init__(self, folder, agent_steps)"):
                named.append(WRITERS[name](folder, progress.agent_steps))
        trackers.extend(writer for writer in named if isinstance(writer, Tracker))
        display = make_display(config.run.budget_agent_steps, progress.agent_steps, stage, bar=wishes.bar)
        return [*named, *wishes.writers, display]

    return make


def _stage(experiment: Experiment) -> Sequence[str]:
    """The numbers that the progress shows besides those of all runs."""
    return (*experiment.learner.progress_metrics, *(("best_member_return",) if experiment.members else ()))


def _cannot_save() -> bool:
    """Takes the place of saving where several processes train, because one alone does not know all episodes."""
    return False


def _introduction(config: Config, experiment: Experiment, team: Team, recipe: str, folder: Path) -> str:
    device = team.devices[0]
    kind = f"{device.platform} ({device.device_kind})"
    if team.num_devices > 1:
        kind = f"{team.num_devices} devices in {team.num_processes} processes, each {kind}"
    has_candidates = experiment.learner.episodes_to_play  # they take turns, whatever the emulators could do
    path = FROM_PYTHON if has_candidates else experiment.fleet.rollouts[0].path
    lanes = f"{config.env.num_lanes} lanes"
    if experiment.members:
        lanes = f"{len(experiment.members)} members of {lanes}"
    return f"jaxpg: {config.env.game} on {config.env.backend}, {lanes}, {path}, {kind}, {recipe}, run folder {folder}"


def _say_end(training: Training, ended: str, words: str) -> None:
    """Writes ``summary.json`` with the reason ``ended``, and prints how the run ended, beginning with ``words``."""
    progress, report = training.progress, training.experiment.learner.report
    try:
        write_json(training.folder / SUMMARY, {"ended": ended, **_without_returns(progress)})
    except OSError as error:
        training.unsaved = training.unsaved or f"summary.json: {error.strerror}"
    say(
        f"jaxpg: {words}; {progress.agent_steps:,} agent steps, {progress.episodes:,} games in "
        f"{progress.wall_seconds:.0f} s; {_mean_return(progress)}"
        + ("" if training.unsaved else f"; all of it in {training.folder}")
    )
    if report:
        say(f"jaxpg: {report(progress.metrics)}")


def _of_best(progress: RunProgress) -> str:
    """The end of the last line of a population: its best member."""
    if not progress.members:
        return ""
    best = progress.members[progress.best_member].return_mean_100
    return f" over all members, {'-' if best is None else f'{best:.2f}'} of member {progress.best_member}, the best"


def _wait_for_videos(recorder: Recorder, folder: Path, stop: Stop) -> None:
    while (left := len(recorder.unrecorded)) and stop.signal is None:
        with said_while_waiting(f"waiting for {left} video{'s' if left > 1 else ''} in {folder / 'videos'}"):
            while len(recorder.unrecorded) == left and stop.signal is None:
                recorder.wait(seconds=0.1)


def _mean_return(progress: RunProgress) -> str:
    """Words for the mean return of the newest games, and how many these are."""
    if progress.return_mean_100 is None:
        return "no game has ended"
    number = WINDOW_EPISODES if progress.members else len(progress.last_returns)
    return f"mean return of the last {number} games {progress.return_mean_100:.2f}{_of_best(progress)}"


def _without_returns(progress: RunProgress) -> dict[str, Any]:
    left_out = ("last_returns", "last_lengths", "members")
    data = {name: x for name, x in progress.to_json().items() if name not in left_out}
    members = [
        {"episodes": member.episodes, "metrics": member.metrics, "return_mean_100": member.return_mean_100}
        for member in progress.members
    ]
    return {**data, "return_mean_100": progress.return_mean_100, **({"members": members} if members else {})}


def _result(training: Training, ended: str, stop: Stop, *, fault: bool, unsaved: str | None) -> TrainResult:
    progress = training.progress
    return TrainResult(
        folder=training.folder,
        ended=ended,
        signal=stop.signal,
        fault=fault,
        unsaved=unsaved,
        iterations=progress.iteration,
        agent_steps=progress.agent_steps,
        episodes=progress.episodes,
        wall_seconds=progress.wall_seconds,
        return_mean_100=progress.return_mean_100,
        metrics=dict(progress.metrics),
        members=tuple(member.return_mean_100 for member in progress.members),
    )
