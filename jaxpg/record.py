"""Records videos of a policy: ``jaxpg.record(run)`` in Python, ``python -m jaxpg.record`` in a shell."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from jaxpg.cli import check_games, open_run, parse_play
from jaxpg.config import Config, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import Actions, Player, build
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import refuse_links
from jaxpg.machine.prepared import CallableModule, prepare_process
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.run.saved_run import restore_params
from jaxpg.run.trackers.tracker import bring_up_to_date
from jaxpg.viewing.filming import Filming, film_checkpoints, film_grid


@dataclasses.dataclass(frozen=True)
class RecordArguments:
    """Records videos of whole games that a run's policy plays. The game is in its own colours at true speed; an
    environment that draws no picture is shown by its numbers, as bars. Beside it stand the actions' probabilities, the
    value, the score, and what the policy sees. A JSON file has the same numbers.
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder."""
    checkpoint: tuple[str, ...] = ("latest",)
    """Checkpoints to record, each in its own video: iterations, latest, or best."""
    member: int | None = None
    """Member of a population, from 0; without it the best one of each checkpoint."""
    grid: bool = False
    """Show all checkpoints side by side in one video, with nothing but the games' scores."""
    episodes: int = 1
    """Number of whole games in a video."""
    out: str = ""
    """MP4 file. With several videos, their names begin with its name. Empty for videos/ in the run folder."""
    actions: Actions = "trained"
    """How actions are chosen: sampled from the policy, greedy (the most probable one), trained (as in training), or
    random (all alike, whatever the policy says: a baseline)."""
    seed: int = 0
    """The games are a function of this number, the policy and the settings of env."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the run uses, in place of those that the run names."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the run folder names, which runs their code."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)


def record(
    run: str | Path,
    *,
    checkpoint: str | int | Sequence[str | int] = "latest",
    member: int | None = None,
    episodes: int = 1,
    grid: bool = False,
    out: str | Path = "",
    actions: Actions = "trained",
    seed: int = 0,
    env: Mapping[str, Any] | None = None,
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> list[Path]:
    """Records videos of whole episodes that a run's policy plays.

    Args:
      run: the run folder.
      checkpoint: an iteration, ``"latest"`` or ``"best"``, or several of these. Each checkpoint gets its own video.
      member: whose policy, in a population, from 0; None for the best member's of each checkpoint.
      episodes: how many whole episodes a video shows.
      grid: whether to show all checkpoints side by side in one video instead.
      out: an MP4 file. With several videos, their names begin with its name. Empty for ``videos/`` in the run folder.
      actions: how actions are chosen: ``"sampled"`` from the policy, ``"greedy"`` (the most probable one), or
        ``"trained"`` (as in training), or ``"random"`` (all alike, whatever the policy says: a baseline).
      seed: the episodes are a function of this number, the policy and the settings of env.
      env: settings of the environment that differ from those in training.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Returns:
      The paths of the videos.

    Raises:
      UserError: the run or the checkpoint does not exist or is damaged, its imports are not trusted, the game cannot
        be played again, or a video cannot be written.
      FaultError: emulators failed.
    """
    config = open_run(run, imports, trust_imports=trust_imports)
    changed = with_overrides(config, {f"env.{name}": value for name, value in (env or {}).items()})
    check_games(episodes, seed)
    several = (checkpoint,) if isinstance(checkpoint, str | int) else checkpoint
    arguments = RecordArguments(
        run=str(run),
        checkpoint=tuple(map(str, several)),
        member=member,
        grid=grid,
        episodes=episodes,
        out=str(out),
        actions=actions,
        seed=seed,
        env=changed.env,
    )
    return _record(_for_one_lane(arguments), config)


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    _record(*_parse(argv))
    return 0


def _record(arguments: RecordArguments, config: Config) -> list[Path]:
    prepare_process(learns=False)
    folder = Path(arguments.run)
    with said_while_waiting("building the network and the emulators"):
        experiment = build(config, Player(arguments.env, arguments.actions, keeps_tape=True))
        chosen = [restore_params(folder, experiment, which, arguments.member) for which in arguments.checkpoint]
    restored = {one.iteration: one for one in chosen}  # the latest and the best may be the same
    for remark in experiment.remarks:
        say(f"jaxpg: {remark}")
    filming = Filming(config, arguments.env, experiment, arguments.episodes, arguments.seed)
    if arguments.grid:
        paths = [_path(arguments, "grid", alone=True)]
        film_grid(filming, restored.values(), paths[0])
    else:
        alone = len(arguments.checkpoint) == 1
        whose = "" if arguments.member is None else f"-member{arguments.member}"
        whose += "-random" if experiment.acts == "random" else ""
        paths_by_iteration = {iteration: _path(arguments, f"{iteration}{whose}", alone=alone) for iteration in restored}
        film_checkpoints(filming, restored.values(), paths_by_iteration)
        paths = list(paths_by_iteration.values())
    experiment.rollout.close()
    if not arguments.out:
        bring_up_to_date(Path(arguments.run))
    return paths


def _parse(argv: Sequence[str]) -> tuple[RecordArguments, Config]:
    arguments, config = parse_play("record", argv, RecordArguments())
    return _for_one_lane(arguments), config


def _for_one_lane(arguments: RecordArguments) -> RecordArguments:
    """Reduces the arguments to one lane, because episodes are recorded one after another.

    Raises:
      UserError: ``out`` is no name of a video, or the run folder has links where the videos would go.
    """
    if arguments.out and not arguments.out.endswith(".mp4"):
        raise UserError(f"out: the name of a video ends with .mp4, unlike {arguments.out!r}")
    if not arguments.out:
        refuse_links(Path(arguments.run))
    return dataclasses.replace(arguments, env=dataclasses.replace(arguments.env, num_lanes=1, num_pools=1, workers=0))


def _path(arguments: RecordArguments, name: str, *, alone: bool) -> Path:
    """Returns the path of the video ``name``; ``alone`` says whether it is the only video."""
    if not arguments.out:
        return Path(arguments.run) / "videos" / f"{name}.mp4"
    out = Path(arguments.out)
    return out if alone else out.with_name(f"{out.stem}-{name}.mp4")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
