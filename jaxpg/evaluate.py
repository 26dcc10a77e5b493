"""Evaluates a trained policy (``jaxpg.evaluate``, ``python -m jaxpg.evaluate``) and loads it as a function."""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import numpy as np
import tyro

from jaxpg.cli import check_games, open_run, parse_play
from jaxpg.config import Config, with_overrides
from jaxpg.core.types import Episodes, Params
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import Actions, Player, build
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.trained_policy import TrainedPolicy
from jaxpg.kernel.whole_episodes import play_episodes
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.prepared import CallableModule, prepare_process
from jaxpg.machine.waiting import count_up, said_while_waiting
from jaxpg.run.saved_run import restore_params
from jaxpg.run.trackers.tracker import bring_up_to_date
from jaxpg.scores.evaluation_file import Evaluation, add_evaluation, only_writer, read_evaluations
from jaxpg.scores.fingerprints import Fingerprinted, Game, games_of
from jaxpg.scores.human_scores import has_human_score, incomparable
from jaxpg.scores.intervals import Summary, summarize

SEGMENT = 2**31
"""Number of the segment from which the seeds of evaluation episodes are made. No training reaches this segment."""


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Plays whole games with a run's policy, in the run's own protocol or another, and says how good it is: the mean
    return with its 95 % interval (mean_low, mean_high).
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder; the result is added to its evaluation.json."""
    checkpoint: str = "latest"
    """Iteration of a checkpoint, latest, or best (highest mean return of the last 100 games of training)."""
    member: int | None = None
    """Member of a population, from 0; without it the best one."""
    episodes: int = 100
    """Whole games to play. Every game that was begun counts, so that short games have no advantage."""
    actions: Actions = "trained"
    """How actions are chosen: sampled from the policy, greedy (the most probable one), trained (as in training), or
    random (all alike, whatever the policy says: a baseline)."""
    seed: int = 0
    """The games are a function of this number, the policy, the number of lanes and the other settings of env."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the run uses, in place of those that the run names."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the run folder names, which runs their code."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)


def evaluate(
    run: str | Path,
    episodes: int = 100,
    *,
    checkpoint: str | int = "latest",
    member: int | None = None,
    actions: Actions = "trained",
    seed: int = 0,
    env: Mapping[str, Any] | None = None,
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> Evaluation:
    """Plays whole episodes with a run's policy and adds their scores to the run's ``evaluation.json``.

    Args:
      run: the run folder.
      episodes: how many episodes to play. Every episode that was begun counts, so that short episodes have no
        advantage.
      checkpoint: an iteration, ``"latest"``, or ``"best"``.
      member: whose policy, in a population, from 0; None for the best member's.
      actions: how actions are chosen: ``"sampled"`` from the policy, ``"greedy"`` (the most probable one), or
        ``"trained"`` (as in training), or ``"random"`` (all alike, whatever the policy says: a baseline).
      seed: the episodes are a function of this number, the policy, the number of lanes and the other settings of env.
      env: settings of the environment that differ from those in training, such as
        ``{"sticky_action_probability": 0.25}``.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Returns:
      The scores of the episodes and their statistics.

    Raises:
      UserError: the run or the checkpoint does not exist or is damaged, its imports are not trusted, or a setting does
        not fit.
      FaultError: emulators failed.
    """
    config = open_run(run, imports, trust_imports=trust_imports)
    changed = with_overrides(config, {f"env.{name}": value for name, value in (env or {}).items()})
    check_games(episodes, seed)
    return _evaluate(
        EvaluateArguments(
            run=str(run),
            checkpoint=str(checkpoint),
            member=member,
            episodes=episodes,
            actions=actions,
            seed=seed,
            env=changed.env,
        ),
        config,
    )


def load_policy(
    run: str | Path,
    checkpoint: str | int = "latest",
    *,
    member: int | None = None,
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> TrainedPolicy:
    """Loads the policy of a run.

    Args:
      run: the run folder.
      checkpoint: an iteration, ``"latest"``, or ``"best"``.
      member: whose policy, in a population, from 0; None for the best member's.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Returns:
      A function from one observation or a batch of them to actions, probabilities and values.

    Raises:
      UserError: the run or the checkpoint does not exist or is damaged, or the run's imports are not trusted.
    """
    config = open_run(run, imports, trust_imports=trust_imports)
    prepare_process(learns=False)
    experiment = build(config, Player(config.env))
    try:
        restored = restore_params(Path(run), experiment, str(checkpoint), member)
        return TrainedPolicy(experiment, restored.params, restored.iteration, restored.value_scale)
    finally:
        experiment.fleet.close()


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    _evaluate(*parse_play("evaluate", argv, EvaluateArguments()))
    return 0


def _evaluate(asked: EvaluateArguments, config: Config) -> Evaluation:
    folder, episodes, seed = Path(asked.run), asked.episodes, asked.seed
    env = dataclasses.replace(asked.env, num_lanes=min(asked.env.num_lanes, episodes))
    prepare_process(learns=False)
    with said_while_waiting("building the network and the emulators"):
        experiment = build(config, Player(env, asked.actions))
        params, iteration, member, _ = restore_params(folder, experiment, asked.checkpoint, asked.member)
    results = folder / "evaluation.json"
    with only_writer(results):  # raises before the episodes are played if the file is damaged or cannot be written
        read_evaluations(results)
    whose = "" if member is None else f", member {member}"
    say(
        f"jaxpg: {folder}, checkpoint {iteration}{whose}: {episodes} games of {env.game} on {env.backend}, "
        f"{experiment.acts} actions, {env.num_lanes} lanes"
    )
    for remark in experiment.remarks:
        say(f"jaxpg: {remark}")
    start = time.perf_counter()
    games, notes = _play(experiment, params, episodes, seed)
    seconds = time.perf_counter() - start
    summary = _summary_of(games, notes, env)
    evaluation = Evaluation(
        checkpoint=iteration,
        member=member,
        actions=experiment.acts,
        seed=seed,
        env=dataclasses.asdict(env),
        **summary._asdict(),
        seconds=round(seconds, 3),
        agent_steps=int(games.length_agent_steps.sum()),
        returns=games.episode_return.tolist(),
        lengths_agent_steps=games.length_agent_steps.tolist(),
    )
    try:
        add_evaluation(results, evaluation)
    finally:  # a full disk must not hide the scores
        _say_summary(summary, env)
    bring_up_to_date(folder)
    return evaluation


def _play(experiment: Experiment, params: Params, episodes: int, seed: int) -> tuple[Episodes, list[Game]]:
    """Plays the episodes; returns them and a note about each of them."""
    rollout = experiment.rollout
    pools = [Fingerprinted(pool) for pool in rollout.pools]
    rollout.pools = pools
    rollout.reset(lane_seeds(seed, SEGMENT, rollout.num_lanes))
    with count_up("games", episodes) as ended:
        games = play_episodes(rollout, params, episodes, jax.random.key(seed), ended)
    rollout.close()
    return games, games_of(games, pools)


def _summary_of(games: Episodes, notes: Sequence[Game], env: EnvConfig) -> Summary:
    return summarize(
        games.episode_return,
        dataclasses.asdict(env),
        games=np.array([note.fingerprint for note in notes], np.uint64),
        cut=sum(note.cut for note in notes),
    )


def _say_summary(summary: Summary, env: EnvConfig) -> None:
    numbers = summary._asdict()
    if not has_human_score(dataclasses.asdict(env)):
        del numbers["human_normalized"]
    say(" ".join(f"{name}={_short(value)}" for name, value in numbers.items()))
    if summary.distinct < summary.episodes:
        say(
            f"jaxpg: {summary.distinct} of the {summary.episodes} games are different ones; the interval counts equal "
            "games as one"
        )
    if summary.cut:
        say(f"jaxpg: the time limit cut {summary.cut} of the games")
    reason = incomparable(dataclasses.asdict(env))
    if reason:
        say(f"jaxpg: no human-normalised score: {reason}")


def _short(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
