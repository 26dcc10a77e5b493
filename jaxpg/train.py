"""Training: ``jaxpg.train(config)`` in Python, ``python -m jaxpg.train`` in a shell."""

import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxpg import __version__
from jaxpg.cli import TrainArguments, open_recipe, parse_train
from jaxpg.config import Config, flatten, load_run
from jaxpg.core.errors import FaultError
from jaxpg.core.user_modules import NOBODY, Trust, import_all
from jaxpg.experiment import build
from jaxpg.machine.command import run_command
from jaxpg.machine.prepared import CallableModule, prepare_process
from jaxpg.machine.signals import Stop, signals_heard
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.parallel.processes import DistributedConfig, joined_team
from jaxpg.parallel.team import Team
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
    bar: bool = False,
    trust_imports: bool = False,
) -> TrainResult:
    """Trains a policy and keeps the run in a folder.

    Progress is logged by the logger ``jaxpg``. A signal that comes meanwhile in the main thread saves the run, ends it,
    and is then raised again for the program's own handler, so that Ctrl-C is a KeyboardInterrupt after the save.

    Args:
      config: from ``jaxpg.load_recipe``; None for the default recipe, or with ``resume`` for the run's own.
      folder: where the run is kept, in place of ``config.run.dir``; empty for a new folder under ``runs/``.
      resume: whether to go on with the run in ``folder``.
      writers: further writers, each told of every iteration and closed at the end.
      callbacks: ``(record, episodes) -> whether to go on``, called after each iteration; only False ends the run.
      bar: whether progress is drawn on the terminal.
      trust_imports: with ``resume``, whether the modules that the run folder names are imported.

    Returns:
      Why the run ended, and how far it is.

    Raises:
      UserError: settings contradict each other, or the folder or a checkpoint is of no use.
      FaultError: emulators failed, or the end of the run is not on the disk; what is saved can be resumed.
    """
    if config is None:
        config = load_run(str(folder), Trust(everything=True) if trust_imports else NOBODY) if resume else open_recipe()
    import_all(config.imports)
    if folder and not resume:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(folder)))
    wishes = Wishes(
        resume=str(folder) if resume else "", writers=writers, callbacks=callbacks, bar=bar, about=("from Python",)
    )
    with signals_heard() as stop:
        result = _train(config, DistributedConfig(), stop, wishes)
    if result.signal is not None:
        signal.raise_signal(result.signal)
    if result.fault or result.unsaved:
        raise FaultError(result.unsaved or result.ended)
    return result


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code.

    It is 0, 128 plus the number of the signal that ended it, or 1 where an emulator failed or the end of the run is not
    on the disk.
    """
    with signals_heard() as stop:
        arguments = parse_train(argv)
        result = _train(arguments.config, arguments.distributed, stop, wishes_of(arguments))
    if result.fault or result.unsaved:
        return 1
    return 128 + result.signal if result.signal is not None else 0


def wishes_of(arguments: TrainArguments) -> Wishes:
    """What the command line asks for besides the configuration."""
    return Wishes(resume=arguments.resume, about=arguments.about or ("no recipe",), bar=True)


def _train(config: Config, distributed: DistributedConfig, stop: Stop, wishes: Wishes) -> TrainResult:
    prepare_process()
    with joined_team(distributed) as team:
        return train_together(config, team, stop, wishes)


def train_together(config: Config, team: Team, stop: Stop, wishes: Wishes) -> TrainResult:
    """What one process of the team does in a run, from its pieces to its end."""
    team.check_same_settings(_common_settings(config, resumes=bool(wishes.resume)))
    with said_while_waiting("building the network and the emulators"):
        experiment = team.together(lambda: build(config, team=team))
    return run_session(config, experiment, team, stop, wishes)


MAY_DIFFER = {"run.dir", "env.num_threads", "imports"}
"""Settings of which each process of a run may have its own: the folder counts in process 0, threads are a machine's."""


def _common_settings(config: Config, *, resumes: bool) -> dict[str, Any]:
    """What all processes of a run must have in common, by the names of the settings."""
    settings = {"--resume": resumes, "jaxpg's version": __version__, "jax's version": jax.__version__}
    settings |= flatten(config)
    return {name: value for name, value in settings.items() if name not in MAY_DIFFER}


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
