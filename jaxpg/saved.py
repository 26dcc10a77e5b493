"""Opening the folder of a run, finished or still being written, without touching it."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxpg.checkpoint import Checkpoints
from jaxpg.cli import Arguments, parse
from jaxpg.config import Config, check, load_recipe
from jaxpg.console import say
from jaxpg.errors import UserError
from jaxpg.experiment import Experiment
from jaxpg.resume import Metadata
from jaxpg.task import Task, check_player
from jaxpg.types import Params


def load_run(folder: str) -> Config:
    """The configuration of the run in ``folder``; UserError where there is no run."""
    if not folder:
        raise UserError("which run? give its folder, such as runs/mine")
    config = Path(folder) / "config.yaml"
    try:
        there = config.is_file()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder!r}: cannot be read: {error}") from error
    if not there:
        raise UserError(f"{folder}: no run: it has no config.yaml")
    return load_recipe(config)


def parse_play(command: str, argv: Sequence[str], default: Arguments) -> tuple[Arguments, Config]:
    """Reads the command line of a command that plays a run's policy.

    Args:
      command: its name.
      argv: what the user gave.
      default: a dataclass of arguments with ``run``, ``episodes``, ``seed`` and ``env``.

    Returns:
      The arguments, whose ``env`` is the run's own with the flags over it, and the run's configuration.

    Raises:
      UserError: there is no such run, or a flag or a value is wrong.
    """
    first: Any = parse(command, argv, default)
    config = load_run(first.run)
    arguments: Any = parse(command, argv, dataclasses.replace(first, env=config.env))
    if arguments.episodes < 1:
        raise UserError(f"episodes: at least 1, not {arguments.episodes}")
    if not 0 <= arguments.seed < 2**31:
        raise UserError(f"seed: from 0 to {2**31 - 1}, not {arguments.seed}")
    env = check(dataclasses.replace(config, env=arguments.env)).env
    return dataclasses.replace(arguments, env=env), config


def restore_params(folder: Path, experiment: Experiment, which: str) -> tuple[Params, int]:
    """The policy of one checkpoint.

    Args:
      folder: of the run.
      experiment: the pieces that the checkpoint must fit.
      which: an iteration, ``latest``, or ``best``: the highest mean return of the last 100 games of training.

    Returns:
      The params, and the checkpoint's iteration.

    Raises:
      UserError: there is no such checkpoint, or it is damaged or of another architecture.
    """
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: no checkpoint yet")
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        iteration = _choose(checkpoints, folder, which)
        key = jax.random.key(0)
        like = jax.eval_shape(lambda: experiment.learner.init(key, experiment.policy.init(key)))
        state, _ = checkpoints.restore(iteration, like, partial(_check_player, folder, iteration, experiment.task))
    finally:
        checkpoints.close()
    return state.params, iteration


def _check_player(folder: Path, iteration: int, played: Task, metadata: Metadata) -> None:
    """Refuses what the policy cannot play, and says what it sees otherwise than in training."""
    for difference in check_player(metadata.task, played) if metadata.task else []:
        say(f"jaxpg: {folder}, checkpoint {iteration}: {difference}", error=True)


def _choose(checkpoints: Checkpoints, folder: Path, which: str) -> int:
    iterations = checkpoints.iterations()
    if not iterations:
        raise UserError(f"{folder}: no checkpoint yet")
    match which:
        case "latest":
            return iterations[-1]
        case "best":
            return max(iterations, key=lambda iteration: _mean_return(checkpoints, iteration))
        case _ if which.isdecimal():
            return int(which)
    raise UserError(f"checkpoint: {which!r} is no iteration, nor 'latest' or 'best'")


def _mean_return(checkpoints: Checkpoints, iteration: int) -> float:
    mean = checkpoints.metadata(iteration).progress.return_mean_100
    return float("-inf") if mean is None else mean
