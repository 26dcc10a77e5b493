"""``python -m jaxpg.evaluate``: plays whole games with a run's policy and says how good it is."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import jax
import numpy as np
import tyro

from jaxpg.cli import parse_play
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import GREEDY, Actions, Player, build
from jaxpg.kernel.rollout import play_games
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.malloc import keep_freed_memory
from jaxpg.machine.waiting import count_up
from jaxpg.machine.xla import keep_compiled_code, use_fast_convolutions, use_float32
from jaxpg.run.saved_run import restore_params
from jaxpg.scores.evaluation_file import Evaluation, add_evaluation, only_writer, read_evaluations
from jaxpg.scores.fingerprints import Fingerprinted, games_of
from jaxpg.scores.human_scores import incomparable
from jaxpg.scores.intervals import Summary, summarize

SEGMENT = 2**31
"""Where the seeds of evaluation games come from: a segment that no training reaches."""


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Plays whole games with a run's policy, in the run's own protocol or another, and says how good it is."""

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder; the result is added to its evaluation.json."""
    checkpoint: str = "latest"
    """Iteration of a checkpoint, latest, or best (highest mean return of the last 100 games of training)."""
    episodes: int = 100
    """Whole games to play; every game that was begun counts, so that short ones have no advantage."""
    actions: Actions = "trained"
    """Sampled from the policy, greedy for the most probable one, or as the learner took them."""
    seed: int = 0
    """The games are a function of this number, the policy, the number of lanes and the other settings of env."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)


def evaluate(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    arguments, config = parse_play("evaluate", argv, EvaluateArguments())
    folder = Path(arguments.run)
    env = dataclasses.replace(arguments.env, num_lanes=min(arguments.env.num_lanes, arguments.episodes))
    keep_freed_memory()
    keep_compiled_code()
    use_fast_convolutions()
    use_float32()
    experiment = build(config, Player(env, GREEDY[arguments.actions]))
    params, iteration = restore_params(folder, experiment, arguments.checkpoint)
    results = folder / "evaluation.json"
    with only_writer(results):  # damaged, or not to be written? then before the games
        read_evaluations(results)
    actions = "greedy" if experiment.rollout.greedy else "sampled"
    say(
        f"jaxpg: {folder}, checkpoint {iteration}: {arguments.episodes} games of {env.game} on {env.backend}, "
        f"{actions} actions, {env.num_lanes} lanes"
    )
    for remark in experiment.remarks:
        say(f"jaxpg: {remark}")
    pools = [Fingerprinted(pool) for pool in experiment.rollout.pools]
    experiment.rollout.pools = pools
    experiment.rollout.reset(lane_seeds(arguments.seed, SEGMENT, env.num_lanes))
    start = time.perf_counter()
    with count_up("games", arguments.episodes) as ended:
        key = jax.random.key(arguments.seed)
        games = play_games(experiment.rollout, params, arguments.episodes, key, ended)
    seconds = time.perf_counter() - start
    experiment.rollout.close()
    notes = games_of(games, pools)
    summary = summarize(
        games.episode_return,
        dataclasses.asdict(env),
        games=np.array([note.fingerprint for note in notes], np.uint64),
        cut=sum(note.cut for note in notes),
    )
    evaluation = Evaluation(
        checkpoint=iteration,
        actions=actions,
        seed=arguments.seed,
        env=dataclasses.asdict(env),
        **summary._asdict(),
        seconds=round(seconds, 3),
        agent_steps=int(games.length_agent_steps.sum()),
        returns=games.episode_return.tolist(),
        lengths_agent_steps=games.length_agent_steps.tolist(),
    )
    try:
        add_evaluation(results, evaluation)
    finally:  # the games were played, even where the disk is full
        _say_summary(summary, env)
    return 0


def _say_summary(summary: Summary, env: EnvConfig) -> None:
    say(" ".join(f"{name}={_short(value)}" for name, value in summary._asdict().items()))
    if summary.distinct < summary.episodes:
        say(
            f"jaxpg: {summary.episodes} games, {summary.distinct} different: the interval counts a game that was "
            "played several times once, with its weight in the mean"
        )
    if summary.cut:
        say(f"jaxpg: the time limit cut {summary.cut} of the games")
    reason = incomparable(dataclasses.asdict(env))
    if reason:
        say(f"jaxpg: no human-normalised score: {reason}")


def _short(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(evaluate, argv)


if __name__ == "__main__":
    main()
