"""``python -m jaxpg.train``: configuration -> pieces -> the training loop -> the run folder."""

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax

from jaxpg import __version__
from jaxpg.cli import TrainArguments, parse_train
from jaxpg.config import Config
from jaxpg.core.errors import FaultError
from jaxpg.experiment import build
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import write_json
from jaxpg.machine.malloc import keep_freed_memory
from jaxpg.machine.signals import Stop, signals_heard
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.machine.xla import keep_compiled_code, use_fast_convolutions, use_float32
from jaxpg.parallel.processes import joined_team
from jaxpg.parallel.team import Team
from jaxpg.run.counters import Progress
from jaxpg.run.lock import only_trainer
from jaxpg.run.recorder import Recorder, check_recordable
from jaxpg.run.run_folder import SUMMARY, new_run_folder, take_end_away, write_config, write_resumed_config
from jaxpg.run.training import Training
from jaxpg.run.watchdog import watched


def train(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code.

    It is 0, 128 plus the number of the signal that ended it, or 1 where an emulator failed or the end of the run is not
    on the disk.
    """
    with signals_heard() as stop:
        return _train(argv, stop)


def _train(argv: Sequence[str], stop: Stop) -> int:
    arguments = parse_train(argv)
    keep_freed_memory()
    keep_compiled_code()
    use_fast_convolutions()
    use_float32()
    with joined_team(arguments.distributed) as team:
        return train_together(arguments, team, stop)


def train_together(arguments: TrainArguments, team: Team, stop: Stop) -> int:
    """What one process of the team does in a run, from its pieces to its end; returns the exit code."""
    config = arguments.config
    team.check_same_settings(_common_settings(arguments))
    with said_while_waiting("building the network and the emulators"):
        experiment = team.together(lambda: build(config, team=team))
    if config.run.record_every:
        check_recordable(config.env)
    folder = Path(arguments.resume or team.lead(lambda: str(new_run_folder(config))))
    with ExitStack() as locks:
        team.lead(lambda: locks.enter_context(only_trainer(folder)))
        if not arguments.resume:
            team.lead(lambda: write_config(folder, config))
        if team.leads:
            recipe, *about_recipe = arguments.about or ("no recipe",)
            say(_introduction(config, team, recipe, folder))
            for remark in (*about_recipe, *experiment.remarks):
                say(f"jaxpg: {remark}")
        with said_while_waiting("reading the newest checkpoint" if arguments.resume else "making the first weights"):
            training = Training(config, folder, experiment, team, resume=bool(arguments.resume))
        if arguments.resume:
            agent_steps = training.progress.agent_steps  # the new flags fit the checkpoint
            team.lead(lambda: write_resumed_config(folder, config, agent_steps))
            team.lead(lambda: take_end_away(folder))
        fault: FaultError | None = None
        save = training.save if team.num_processes == 1 else _cannot_save
        with closing(Recorder(folder)) as recorder:
            with closing(training), watched(experiment.fleet, config.env.timeout_seconds, save):
                try:
                    reason = training.run(stop, recorder)
                except FaultError as error:
                    if team.num_processes > 1:
                        raise  # which ends this process, and so all
                    fault, reason = error, str(error)
                    say(f"jaxpg: {folder}: {reason}", error=True)
                    training.save()
            if team.leads:
                _say_end(training, reason)
            if not fault:
                _wait_for_videos(recorder, stop)
    if training.unsaved:
        say(f"jaxpg: {folder}: the end of the run is not on the disk: {training.unsaved}", error=True)
    if fault or any(team.gather(training.unsaved)):
        return 1
    return 128 + stop.signal if stop.signal is not None else 0


MAY_DIFFER = {"run.dir", "env.num_threads"}
"""Settings of which each process of a run may have its own: the folder counts in process 0, threads are a machine's."""


def _common_settings(arguments: TrainArguments) -> dict[str, Any]:
    """What all processes of a run must have in common, by the names of the settings."""
    settings = {"--resume": bool(arguments.resume), "jaxpg's version": __version__, "jax's version": jax.__version__}
    for section, values in dataclasses.asdict(arguments.config).items():
        settings |= {f"{section}.{name}": value for name, value in values.items()}
    return {name: value for name, value in settings.items() if name not in MAY_DIFFER}


def _cannot_save() -> bool:
    """One of several processes alone has no whole state of the games."""
    return False


def _introduction(config: Config, team: Team, recipe: str, folder: Path) -> str:
    device = team.devices[0]
    kind = f"{device.platform} ({device.device_kind})"
    if team.num_devices > 1:
        kind = f"{team.num_devices} devices in {team.num_processes} processes, each {kind}"
    return (
        f"jaxpg: {config.env.game} on {config.env.backend}, {config.env.num_lanes} lanes, {kind}, {recipe}, "
        f"run folder {folder}"
    )


def _say_end(training: Training, reason: str) -> None:
    """The end of a run, for its summary.json and for who watches."""
    progress, report = training.progress, training.experiment.learner.report
    try:
        write_json(training.folder / SUMMARY, {"ended": reason, **_without_returns(progress)})
    except OSError as error:
        training.unsaved = f"summary.json: {error.strerror}"
    mean = "-" if progress.return_mean_100 is None else f"{progress.return_mean_100:.2f}"
    say(
        f"jaxpg: {reason}; {progress.agent_steps:,} agent steps, {progress.episodes:,} games in "
        f"{progress.wall_seconds:.0f} s; mean return of the last 100 games {mean}; all of it in {training.folder}"
    )
    if report:
        say(f"jaxpg: {report(progress.metrics)}")


def _wait_for_videos(recorder: Recorder, stop: Stop) -> None:
    left = len(recorder.unrecorded)
    if left and stop.signal is None:
        say(f"jaxpg: waiting for {left} video{'s' if left > 1 else ''}")
    while recorder.unrecorded and stop.signal is None:
        recorder.wait(seconds=0.1)


def _without_returns(progress: Progress) -> dict[str, Any]:
    data = {name: x for name, x in progress.to_json().items() if name not in ("last_returns", "last_lengths")}
    return {**data, "return_mean_100": progress.return_mean_100}


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(train, argv)


if __name__ == "__main__":
    main()
