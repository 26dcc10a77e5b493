"""``python -m jaxpg.evaluate``: plays whole games with a run's policy and says how good it is."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import jax
import tyro

from jaxpg.compiled import keep_compiled_code, use_fast_convolutions, use_float32
from jaxpg.console import say
from jaxpg.envs.config import EnvConfig
from jaxpg.errors import run_command
from jaxpg.evaluations import Evaluation, add_evaluation, read_evaluations
from jaxpg.experiment import GREEDY, Actions, Player, build, lane_seeds
from jaxpg.memory import keep_freed_memory
from jaxpg.progress import count_up
from jaxpg.rollout import play_games
from jaxpg.saved import parse_play, restore_params
from jaxpg.summary import summarize

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
    """The games are a function of this number and the policy."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)


def evaluate(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    arguments, config = parse_play("evaluate", argv, EvaluateArguments())
    folder = Path(arguments.run)
    env = dataclasses.replace(arguments.env, num_lanes=min(arguments.env.num_lanes, arguments.episodes))
    read_evaluations(folder / "evaluation.json")  # damaged? then before the work
    keep_freed_memory()
    keep_compiled_code()
    use_fast_convolutions()
    use_float32()
    experiment = build(config, Player(env, GREEDY[arguments.actions]))
    params, iteration = restore_params(folder, experiment, arguments.checkpoint)
    actions = "greedy" if experiment.rollout.greedy else "sampled"
    say(
        f"jaxpg: {folder}, checkpoint {iteration}: {arguments.episodes} games of {env.game} on {env.backend}, "
        f"{actions} actions, {env.num_lanes} lanes"
    )
    experiment.rollout.reset(lane_seeds(arguments.seed, SEGMENT, env.num_lanes))
    start = time.perf_counter()
    with count_up("games", arguments.episodes) as ended:
        key = jax.random.key(arguments.seed)
        games = play_games(experiment.rollout, params, arguments.episodes, key, ended)
    seconds = time.perf_counter() - start
    experiment.rollout.close()
    summary = summarize(games.episode_return, env.game)
    say(" ".join(f"{name}={_short(value)}" for name, value in summary._asdict().items()))
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
    add_evaluation(folder / "evaluation.json", evaluation)
    return 0


def _short(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(evaluate, argv)


if __name__ == "__main__":
    main()
