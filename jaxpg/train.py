"""Trains a policy: ``jaxpg.train(config)`` in Python, ``python -m jaxpg.train`` in a shell."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxpg import __version__
from jaxpg.cli import TrainArguments, open_recipe, open_run, parse_train
from jaxpg.config import Config, check, flatten, with_schedule
from jaxpg.core.errors import FaultError, UserError
from jaxpg.core.user_modules import import_all
from jaxpg.experiment import build
from jaxpg.machine.command import run_command
from jaxpg.machine.prepared import CallableModule, prepare_process
from jaxpg.machine.signals import Stop, signals_heard, signals_raised_again
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.parallel.processes import DistributedConfig, joined_team
from jaxpg.parallel.team import Team
from jaxpg.run.run_folder import new_run_folder
from jaxpg.run.session import TrainResult, Wishes, run_session
from jaxpg.run.training import Callback
from jaxpg.run.writers import Writer


def train(
    config: Config | None = None,
    folder: str | Path = "",
    *,
    resume: bool = False,
    writers: Sequence[Writer] = (),
    callbacks: Sequence[Callback] = (),
    profile: tuple[int, int] | None = None,
    bar: bool = False,
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> TrainResult:
    """Trains a policy and writes a run folder.

    The logger ``jaxpg`` receives the progress. When the main thread receives a signal, the run is saved and ends. Then
    the signal is raised again for the program's own handler, so Ctrl-C becomes a KeyboardInterrupt after the save.

    Args:
      config: the configuration, as ``jaxpg.load_recipe`` returns it. None stands for the default recipe, or with
        ``resume`` for the configuration of the run.
      folder: the run folder, in place of ``config.run.dir``; empty for a new folder under ``runs/``.
      resume: whether to go on with the run in ``folder``.
      writers: further writers. Each receives every iteration and is closed at the end.
      callbacks: functions ``(record, episodes) -> bool | None`` that are called after each iteration. False ends the
        run.
      profile: the first and the last iteration to profile. Perfetto opens the trace, which is in ``profile/``.
      bar: whether to draw a progress bar on the terminal.
      imports: with ``resume`` and without ``config``, modules and files to import in place of those that the run folder
        names, for example because a file has moved.
      trust_imports: with ``resume``, whether to import the modules that the run folder names, which runs their code.

    Returns:
      Why the run ended, and how far it came.

    Raises:
      UserError: settings contradict each other, the folder or a checkpoint cannot be used, or a number became infinite
        or NaN.
      FaultError: emulators failed, or the end of the run could not be saved. The newest checkpoint can be resumed.
    """
    if config is None:
        config = open_run(folder, imports, trust_imports=trust_imports) if resume else open_recipe()
    config = _checked(config)
    folder = folder or (config.run.dir if resume else "")
    if resume and not folder:
        raise UserError("folder: which run is to be resumed? give its folder, such as runs/mine")
    if folder and not resume:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(folder)))
    wishes = Wishes(
        resume=str(folder) if resume else "",
        writers=writers,
        callbacks=callbacks,
        profile=profile,
        bar=bar,
        about=("from Python",),
    )
    with signals_raised_again() as stop:
        result = _train(config, DistributedConfig(), stop, wishes)
    if result.fault or result.unsaved:
        raise FaultError(result.unsaved or result.ended)
    return result


def _checked(config: object) -> Config:
    """Checks a configuration, which may be made by hand, and imports what it needs."""
    if not isinstance(config, Config):
        raise UserError(
            f"config: a configuration, such as jaxpg.load_recipe('cartpole') returns, not {type(config).__name__}"
        )
    import_all(config.imports)
    return with_schedule(check(config))


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code.

    The exit code is 0, or 128 plus the number of the signal that ended the run, or 1 where an emulator failed or the
    end of the run could not be saved.
    """
    with signals_heard() as stop:
        arguments = parse_train(argv)
        result = _train(arguments.config, arguments.distributed, stop, wishes_of(arguments))
    if result.fault or result.unsaved:
        return 1
    return 128 + result.signal if result.signal is not None else 0


def wishes_of(arguments: TrainArguments) -> Wishes:
    """Returns what the command line asks for besides the configuration."""
    about = arguments.about or ("no recipe",)
    return Wishes(resume=arguments.resume, about=about, profile=arguments.profile, bar=True)


def _train(config: Config, distributed: DistributedConfig, stop: Stop, wishes: Wishes) -> TrainResult:
    prepare_process()
    with joined_team(distributed) as team:
        return train_together(config, team, stop, wishes)


def train_together(config: Config, team: Team, stop: Stop, wishes: Wishes) -> TrainResult:
    """Builds the experiment in one process of the team and runs it to its end."""
    team.check_same_settings(_common_settings(config, resumes=bool(wishes.resume)))
    if not wishes.resume:
        team.lead(lambda: str(new_run_folder(config)))  # refuses before anything is built
    with said_while_waiting("building the network and the emulators"):
        experiment = team.together(lambda: build(config, team=team))
    return run_session(config, experiment, team, stop, wishes)


MAY_DIFFER = {"run.dir", "env.num_threads", "imports"}
"""Settings that may differ between the processes of a run.

Only process 0 uses the run folder; the number of threads depends on the machine; imports are paths on each machine.
"""


def _common_settings(config: Config, *, resumes: bool) -> dict[str, Any]:
    """Returns the settings that must be equal in all processes of a run, by name."""
    settings = {"--resume": resumes, "jaxpg's version": __version__, "jax's version": jax.__version__}
    settings |= flatten(config)
    return {name: value for name, value in settings.items() if name not in MAY_DIFFER}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
