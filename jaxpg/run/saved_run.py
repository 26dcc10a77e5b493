"""Opening the folder of a run, finished or still being written, without touching it."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxpg.cli import Arguments, parse
from jaxpg.config import Config, check, load_recipe
from jaxpg.errors import UserError
from jaxpg.experiment import Experiment
from jaxpg.machine.console import say
from jaxpg.machine.memory_estimate import check_memory, games
from jaxpg.policies.task import Task, check_player
from jaxpg.run.checkpoint_metadata import Metadata
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.counters import WINDOW_EPISODES
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
    check_memory([games("episodes", arguments.episodes)])
    if not 0 <= arguments.seed < 2**31:
        raise UserError(f"seed: from 0 to {2**31 - 1}, not {arguments.seed}")
    env = check(dataclasses.replace(config, env=arguments.env)).env
    return dataclasses.replace(arguments, env=env), config


def restore_params(folder: Path, experiment: Experiment, which: str) -> tuple[Params, int]:
    """The policy of one checkpoint; says so where it is no result, such as that of a search that is not over.

    Args:
      folder: of the run.
      experiment: the pieces that the checkpoint must fit.
      which: an iteration, ``latest``, or ``best``: the highest score of all saves, which is the mean return of 100
        games of training, a generation's mean, or how far a search was.

    Returns:
      The params, and the checkpoint's iteration.

    Raises:
      UserError: there is no such checkpoint, it is damaged or of another architecture, or nothing was found yet.
    """
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: no checkpoint yet")
    checkpoints, learner = Checkpoints(folder / "checkpoints"), experiment.learner
    try:
        iteration = _choose(checkpoints, folder, which, learner.score)
        key = jax.random.key(0)
        like = jax.eval_shape(lambda: learner.init(key, experiment.policy.init(key)))
        check = partial(_check_player, folder, iteration, experiment.task)
        state, metadata = checkpoints.restore(iteration, like, check)
    finally:
        checkpoints.close()
    untrained = "" if metadata.progress.iteration else "nothing was trained yet; this is the untrained network"
    try:
        params, remark = learner.result(state) if learner.result else (state.params, untrained)
    except UserError as error:
        raise UserError(f"{folder}: checkpoint {iteration}: {error}") from error
    if remark:
        say(f"jaxpg: {folder}: checkpoint {iteration}: {remark}")
    return params, iteration


def _check_player(folder: Path, iteration: int, played: Task, metadata: Metadata) -> None:
    """Refuses what the policy cannot play, and says what it sees otherwise than in training."""
    for difference in check_player(metadata.task, played) if metadata.task else []:
        say(f"jaxpg: {folder}, checkpoint {iteration}: {difference}", error=True)


def _choose(checkpoints: Checkpoints, folder: Path, which: str, score: str) -> int:
    iterations = checkpoints.iterations()
    if not iterations:
        raise UserError(f"{folder}: no checkpoint yet")
    match which:
        case "latest":
            return iterations[-1]
        case "best":
            return _best(checkpoints, iterations, folder, score)
        case _ if which.isdecimal():
            return int(which)
    raise UserError(f"checkpoint: {which!r} is no iteration, nor 'latest' or 'best'")


def _best(checkpoints: Checkpoints, iterations: Sequence[int], folder: Path, score: str) -> int:
    """The best save, as the newest one names it, because a run keeps it."""
    named = checkpoints.metadata(iterations[-1]).progress.best_iteration
    if named is not None and named in iterations:
        return named
    known = [checkpoints.metadata(iteration).progress for iteration in iterations]
    scores = {one.iteration: one.score(score) for one in known}
    rated = {iteration: number for iteration, number in scores.items() if number is not None}
    if rated:  # of an older version, which did not keep the best
        return max(rated, key=rated.__getitem__)
    if score:
        return iterations[-1]  # no round is over, and the newest save has played most of it
    best = max(known, key=lambda one: -math.inf if one.return_mean_100 is None else one.return_mean_100)
    say(
        f"jaxpg: {folder}: no save had a mean return over {WINDOW_EPISODES} games yet; checkpoint {best.iteration} is "
        f"taken for the best, by its mean over {len(best.last_returns)} games"
    )
    return best.iteration
