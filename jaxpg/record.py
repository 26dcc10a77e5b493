"""Records videos of a policy: ``jaxpg.record(run)`` in Python, ``python -m jaxpg.record`` in a shell."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxpg.cli import check_games, open_run, parse_play
from jaxpg.config import Config, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.core.types import Params, VectorEnv
from jaxpg.envs import ATARI_BACKENDS, make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import rom_ids_by_game
from jaxpg.experiment import GREEDY, Actions, Player, build
from jaxpg.kernel.pieces import Experiment
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import refuse_links
from jaxpg.machine.prepared import CallableModule, prepare_process
from jaxpg.machine.waiting import count_up
from jaxpg.run.saved_run import restore_params
from jaxpg.viewing.grid import Grid, Shot, pictures
from jaxpg.viewing.panel import GAME_SIZE, SIZE, Moment, Panel, scale_game
from jaxpg.viewing.replayed_episode import COLORS, Moves, PlayedEpisode, frame_by_frame, frames_of_agent_steps, play
from jaxpg.viewing.trace import about_video, trace_of_game, trace_path, write_trace
from jaxpg.viewing.video import FRAMES_PER_SECOND, VideoWriter, video_place, write_video


@dataclasses.dataclass(frozen=True)
class RecordArguments:
    """Records videos of whole games that a run's policy plays. An Atari game is in its own colours at true speed; the
    observation of any other environment is drawn. Beside it stand the actions' probabilities, the value, the score, and
    what the policy sees. A JSON file has the same numbers.
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder."""
    checkpoint: tuple[str, ...] = ("latest",)
    """Checkpoints to record, each in its own video: iterations, latest, or best."""
    grid: bool = False
    """Show all checkpoints side by side in one video, with nothing but the games' scores."""
    episodes: int = 1
    """Number of whole games in a video."""
    out: str = ""
    """MP4 file. With several videos, their names begin with its name. Empty for videos/ in the run folder."""
    actions: Actions = "trained"
    """How actions are chosen: sampled from the policy, greedy (the most probable one), or trained (as in training)."""
    seed: int = 0
    """The games are a function of this number, the policy and the settings of env."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) to import first, because they register what the run uses."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the run folder names, which runs their code."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)


def record(
    run: str | Path,
    *,
    checkpoint: str | int | Sequence[str | int] = "latest",
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
      episodes: how many whole episodes a video shows.
      grid: whether to show all checkpoints side by side in one video instead.
      out: an MP4 file. With several videos, their names begin with its name. Empty for ``videos/`` in the run folder.
      actions: how actions are chosen: ``"sampled"`` from the policy, ``"greedy"`` (the most probable one), or
        ``"trained"`` (as in training).
      seed: the episodes are a function of this number, the policy and the settings of env.
      env: settings of the environment that differ from those in training.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Returns:
      The paths of the videos.

    Raises:
      UserError: the run or the checkpoint does not exist or is damaged, its imports are not trusted, or a
        video cannot be written.
      FaultError: emulators failed.
    """
    config = open_run(run, imports, trust_imports=trust_imports)
    changed = with_overrides(config, {f"env.{name}": value for name, value in (env or {}).items()})
    check_games(episodes, seed)
    several = (checkpoint,) if isinstance(checkpoint, str | int) else checkpoint
    arguments = RecordArguments(
        run=str(run),
        checkpoint=tuple(map(str, several)),
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
    prepare_process()
    experiment = build(config, Player(arguments.env, GREEDY[arguments.actions], keeps_tape=True))
    names = list(experiment.task.actions)
    chosen = [restore_params(Path(arguments.run), experiment, which) for which in arguments.checkpoint]
    restored = {iteration: params for params, iteration in chosen}  # the latest and the best may be the same
    for remark in experiment.remarks:
        say(f"jaxpg: {remark}")
    with ExitStack() as places:
        if arguments.grid:
            paths = [_path(arguments, "grid", alone=True)]
            places.enter_context(video_place(paths[0]))
            _record_grid(arguments, experiment, restored, paths[0])
        else:
            paths = [_path(arguments, str(one), alone=len(arguments.checkpoint) == 1) for one in restored]
            for path in paths:  # checks all paths before any episode is played
                places.enter_context(video_place(path))
                trace_path(path)
            display = places.enter_context(_display(arguments))
            for path, (iteration, params) in zip(paths, restored.items(), strict=True):
                _record_checkpoint(arguments, config, experiment, display, names, params, iteration, path)
    experiment.rollout.close()
    return paths


def _record_checkpoint(
    arguments: RecordArguments,
    config: Config,
    experiment: Experiment,
    display: VectorEnv | None,
    names: list[str],
    params: Params,
    iteration: int,
    path: Path,
) -> None:
    """Writes the video of one checkpoint, and then the trace beside it."""
    trace = trace_path(path)
    panel, games = Panel(names), []
    with write_video(path, SIZE) as video:
        for game in range(arguments.episodes):
            title = _title(arguments, iteration, game)
            played = play(experiment, params, arguments.seed + game)
            moves = _moves(experiment, played, arguments.seed + game)
            _film(played, experiment, frames_of_agent_steps(display, moves, experiment.frame_skip), panel, video, title)
            games.append(trace_of_game(played, config, has_value=experiment.policy.has_value))
            _say_game(title, moves, arguments.env)
    greedy = experiment.rollout.greedy
    write_trace(
        trace, about_video(iteration, arguments.env, greedy=greedy, seed=arguments.seed, action_names=names), games
    )
    _say_video(video, path)


def _record_grid(arguments: RecordArguments, experiment: Experiment, restored: dict[int, Params], path: Path) -> None:
    """Writes one video of all checkpoints. Each checkpoint has its own emulator, so that no frame is kept in memory."""
    grid = Grid(len(restored))
    with write_video(path, grid.size) as video, ExitStack() as opened:
        tiles = []
        for iteration, params in restored.items():
            games: dict[str, Moves] = {}
            for game in range(arguments.episodes):
                title = _title(arguments, iteration, game)
                played = play(experiment, params, arguments.seed + game)
                games[title] = _moves(experiment, played, arguments.seed + game)
                _say_game(title, games[title], arguments.env)
            display = opened.enter_context(_display(arguments))
            tiles.append(_shots(games, display, experiment.frame_skip))
        with count_up("frames_filmed") as filmed:
            for picture in pictures(grid, tiles):
                video.write(picture)
                filmed(1)
    _say_video(video, path)


def _shots(games: dict[str, Moves], display: VectorEnv | None, frame_skip: int) -> Iterator[Shot]:
    """Yields the shots of one tile, which shows ``games`` one after another; the keys of ``games`` are their titles."""
    for title, moves in games.items():
        score, frames_shown = 0.0, 0
        for t, frames in enumerate(frames_of_agent_steps(display, moves, frame_skip)):
            score += float(moves.rewards[t])
            for frame in frames:
                yield Shot(title, score, frames_shown / FRAMES_PER_SECOND, frame)
                frames_shown += 1


def _film(
    played: PlayedEpisode,
    experiment: Experiment,
    shown: Iterator[list[np.ndarray]],
    panel: Panel,
    video: VideoWriter,
    title: str,
) -> None:
    """Writes an episode with the panel beside it into the video; ``shown`` has the frames of each agent step."""
    decode = jax.jit(experiment.observation.decode)
    score, seconds = 0.0, 0.0
    with count_up("agent_steps_filmed", len(played.actions)) as filmed:
        for t, frames in enumerate(shown):
            moment = Moment(
                title=title,
                score=score,
                seconds=seconds,
                probabilities=played.probabilities[t],
                action=int(played.actions[t]),
                value=float(played.values[t]) if experiment.policy.has_value else None,
                input=np.asarray(decode(played.encoded[t])),
            )
            beside = panel.draw(moment)
            for frame in frames:
                video.write(np.concatenate([scale_game(frame, GAME_SIZE), beside], axis=1))
            score += float(played.rewards[t])
            seconds += len(frames) / FRAMES_PER_SECOND
            filmed(1)


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
    return dataclasses.replace(arguments, env=dataclasses.replace(arguments.env, num_lanes=1, num_pools=1))


def _path(arguments: RecordArguments, name: str, *, alone: bool) -> Path:
    """Returns the path of the video ``name``; ``alone`` says whether it is the only video."""
    if not arguments.out:
        return Path(arguments.run) / "videos" / f"{name}.mp4"
    out = Path(arguments.out)
    return out if alone else out.with_name(f"{out.stem}-{name}.mp4")


@contextmanager
def _display(arguments: RecordArguments) -> Iterator[VectorEnv | None]:
    """A second emulator that shows the game in its colours; None where the environment has no picture."""
    env = arguments.env
    if env.backend not in ATARI_BACKENDS or env.game not in rom_ids_by_game():
        yield None
        return
    with closing(make_env(frame_by_frame(env), COLORS, 1)) as display:
        yield display


def _moves(experiment: Experiment, played: PlayedEpisode, seed: int) -> Moves:
    """What is needed to show an episode. Observations are kept only where they may have to be drawn."""
    moves = Moves(seed, played.actions, played.rewards)
    if experiment.observation.needs.kind not in ("vector", "picture"):
        return moves
    return moves._replace(observations=np.asarray(jax.vmap(experiment.observation.decode)(jnp.asarray(played.encoded))))


def _title(arguments: RecordArguments, iteration: int, game: int) -> str:
    return f"{arguments.env.game}, checkpoint {iteration}, game {game + 1}"


def _say_game(title: str, moves: Moves, env: EnvConfig) -> None:
    cut = ", where the time limit cut it" if len(moves.actions) >= env.max_episode_agent_steps else ""
    say(f"jaxpg: {title}: return {moves.rewards.sum():g}, {len(moves.actions)} agent steps{cut}")


def _say_video(video: VideoWriter, path: Path) -> None:
    say(f"jaxpg: {video.frames / FRAMES_PER_SECOND:.1f} s of video in {path}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
