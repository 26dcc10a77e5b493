"""Reads the policy of a saved run, finished or still in training, without changing its folder."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax

from jaxpg.core.errors import UserError
from jaxpg.core.types import Params, ValueScale
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.task import Task, check_player
from jaxpg.machine.console import say
from jaxpg.run.checkpoint_metadata import Metadata
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.run_progress import WINDOW_EPISODES, RunProgress


class Restored(NamedTuple):
    """The policy of a checkpoint."""

    params: Params
    iteration: int
    """The checkpoint's."""
    member: int | None
    """Whose policy it is in a population; None where there is none."""
    value_scale: ValueScale
    """Turns the outputs of the policy's value head into returns-to-go."""


def restore_params(folder: Path, experiment: Experiment, which: str, member: int | None = None) -> Restored:
    """Reads the policy of one checkpoint.

    Where the policy is no final result, for example because a search is not over, a printed sentence says so.

    Args:
      folder: the run folder.
      experiment: the policy, learner and task that the checkpoint must fit.
      which: an iteration, ``latest``, or ``best``, which is the checkpoint with the highest score. The score is the
        mean return of 100 training episodes, the mean of a generation, or how far a search was.
      member: whose policy, in a population; None for the member with the highest mean return, which a printed
        sentence names.

    Raises:
      UserError: the checkpoint does not exist, is damaged, belongs to another architecture, or holds no policy yet;
        or there is no such member.
    """
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder}: no checkpoint yet")
    checkpoints, learner = Checkpoints(folder / "checkpoints"), experiment.learner
    try:
        iteration = _choose(checkpoints, folder, which, learner.score)
        key = jax.random.key(0)
        like = jax.eval_shape(lambda: learner.init(key, experiment.policy.init(key)))
        progress = checkpoints.metadata(iteration).progress
        member = _member(folder, progress, member)
        if member is not None:
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(progress.members), *x.shape), x.dtype), like)
        check = partial(_check_player, folder, iteration, experiment.task)
        state, metadata = checkpoints.restore(iteration, like, check)
    finally:
        checkpoints.close()
    if member is not None:
        state = jax.tree.map(lambda x: x[member], state)
    untrained = "" if metadata.progress.iteration else "nothing was trained yet; this is the untrained network"
    try:
        params, remark = learner.result(state) if learner.result else (state.params, untrained)
    except UserError as error:
        raise UserError(f"{folder}: checkpoint {iteration}: {error}") from error
    if remark:
        say(f"jaxpg: {folder}: checkpoint {iteration}: {remark}")
    return Restored(params, iteration, member, jax.device_get(learner.value_scale(state)))


def _member(folder: Path, progress: RunProgress, asked: int | None) -> int | None:
    """The member whose policy is meant; None where the run has no population."""
    number = len(progress.members)
    if not number and asked is not None:
        raise UserError(f"member: {folder} has no population; leave it out")
    if not number:
        return None
    if asked is None:
        best = progress.best_member
        mean = progress.members[best].return_mean_100
        why = "no game was over yet" if mean is None else f"the best by its mean return of {mean:.2f}"
        say(f"jaxpg: {folder}: checkpoint {progress.iteration}: member {best} of {number} is taken, {why}")
        return best
    if not 0 <= asked < number:
        raise UserError(f"member: from 0 to {number - 1}, not {asked}")
    return asked


def _check_player(folder: Path, iteration: int, played: Task, metadata: Metadata) -> None:
    """Raises UserError where the policy cannot play the task, and prints how the task differs from training."""
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
    """Returns the iteration of the best checkpoint, which the newest checkpoint names and the run keeps."""
    named = checkpoints.metadata(iterations[-1]).progress.best_iteration
    if named is not None and named in iterations:
        return named
    known = [checkpoints.metadata(iteration).progress for iteration in iterations]
    scores = {one.iteration: one.score(score) for one in known}
    rated = {iteration: number for iteration, number in scores.items() if number is not None}
    if rated:  # an older version of jaxpg saved the run and did not name the best checkpoint
        return max(rated, key=rated.__getitem__)
    if score:
        return iterations[-1]  # no round is over, and the newest checkpoint has played most of the first one
    best = max(reversed(known), key=lambda one: -math.inf if one.return_mean_100 is None else one.return_mean_100)
    if not best.last_returns:
        say(f"jaxpg: {folder}: no game was over at any save yet; checkpoint {best.iteration} is taken, the newest")
        return best.iteration
    say(
        f"jaxpg: {folder}: no save had a mean return over {WINDOW_EPISODES} games yet; checkpoint {best.iteration} is "
        f"taken for the best, by its mean over {len(best.last_returns)} games"
    )
    return best.iteration
