"""Videos of a policy at play: ``jaxpg.record(run)`` in Python, ``python -m jaxpg.record`` in a shell."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import numpy as np
import tyro

from jaxpg.cli import check_games, open_run, parse_play
from jaxpg.config import Config, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.core.types import Params, VectorEnv
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import action_names
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
    """Records whole games of a run's policy: the game in its own colours at true speed, beside it the actions'
    probabilities, the value, the score, and what the policy sees. A JSON file beside the video has the numbers.
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder."""
    checkpoint: tuple[str, ...] = ("latest",)
    """Checkpoints, each in a video of its own: iterations, latest, or best."""
    grid: bool = False
    """All checkpoints side by side in one video instead, with the games' scores only."""
    episodes: int = 1
    """Whole games in a video."""
    out: str = ""
    """MP4 file, with several videos the first part of its name; empty for videos/ in the run folder."""
    actions: Actions = "trained"
    """Sampled from the policy, greedy for the most probable one, or as the learner took them."""
    seed: int = 0
    """The games are a function of this number, the policy and the settings of env."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) to import first, because they register what the run uses."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether the modules that the run folder names are imported, which runs their code."""
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
    """Records whole games of a run's policy and returns the videos' paths.

    Args:
      run: the run folder.
      checkpoint: one or several of: an iteration, ``"latest"``, ``"best"``.
      episodes: whole games in a video.
      grid: whether all checkpoints stand side by side in one video.
      out: an MP4 file, with several videos the first part of its name; empty for ``videos/`` in the run folder.
      actions: sampled from the policy, greedy for the most probable one, or as the learner took them.
      seed: the games are a function of this number, the policy and the settings of env.
      env: settings of the environment that differ from the training's.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether those that the run folder names are imported, which runs their code.

    Raises:
      UserError: there is no such run or checkpoint, the game has no picture, or a place cannot be written.
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
    names = action_names(arguments.env)
    prepare_process()
    experiment = build(config, Player(arguments.env, GREEDY[arguments.actions], keeps_tape=True))
    chosen = [restore_params(Path(arguments.run), experiment, which) for which in arguments.checkpoint]
    restored = {iteration: params for params, iteration in chosen}  # which may be the latest and the best
    for remark in experiment.remarks:
        say(f"jaxpg: {remark}")
    with ExitStack() as places:
        if arguments.grid:
            paths = [_path(arguments, "grid", alone=True)]
            places.enter_context(video_place(paths[0]))
            _record_grid(arguments, experiment, restored, paths[0])
        else:
            paths = [_path(arguments, str(one), alone=len(arguments.checkpoint) == 1) for one in restored]
            for path in paths:  # all, before any game is played
                places.enter_context(video_place(path))
                trace_path(path)
            display = places.enter_context(closing(_display(arguments)))
            for path, (iteration, params) in zip(paths, restored.items(), strict=True):
                _record_checkpoint(arguments, config, experiment, display, names, params, iteration, path)
    experiment.rollout.close()
    return paths


def _record_checkpoint(
    arguments: RecordArguments,
    config: Config,
    experiment: Experiment,
    display: VectorEnv,
    names: list[str],
    params: Params,
    iteration: int,
    path: Path,
) -> None:
    """One checkpoint's video, and then the trace beside it."""
    trace = trace_path(path)
    panel, games = Panel(names), []
    with write_video(path, SIZE) as video:
        for game in range(arguments.episodes):
            title = _title(arguments, iteration, game)
            played = play(experiment, params, arguments.seed + game)
            moves = Moves(arguments.seed + game, played.actions, played.rewards)
            _film(played, experiment, frames_of_agent_steps(display, moves, experiment.frame_skip), panel, video, title)
            games.append(trace_of_game(played, config, has_value=experiment.policy.has_value))
            _say_game(title, moves, arguments.env)
    greedy = experiment.rollout.greedy
    write_trace(
        trace, about_video(iteration, arguments.env, greedy=greedy, seed=arguments.seed, action_names=names), games
    )
    _say_video(video, path)


def _record_grid(arguments: RecordArguments, experiment: Experiment, restored: dict[int, Params], path: Path) -> None:
    """One video of all checkpoints, each with an emulator of its own, so that no frame has to be kept."""
    grid = Grid(len(restored))
    with write_video(path, grid.size) as video, ExitStack() as opened:
        tiles = []
        for iteration, params in restored.items():
            games: dict[str, Moves] = {}
            for game in range(arguments.episodes):
                title = _title(arguments, iteration, game)
                played = play(experiment, params, arguments.seed + game)
                games[title] = Moves(arguments.seed + game, played.actions, played.rewards)
                _say_game(title, games[title], arguments.env)
            display = opened.enter_context(closing(_display(arguments)))
            tiles.append(_shots(games, display, experiment.frame_skip))
        with count_up("frames_filmed") as filmed:
            for picture in pictures(grid, tiles):
                video.write(picture)
                filmed(1)
    _say_video(video, path)


def _shots(games: dict[str, Moves], display: VectorEnv, frame_skip: int) -> Iterator[Shot]:
    """One tile's games by their titles, one after another, frame by frame."""
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
    """Writes a game, whose frames ``shown`` has agent step by agent step, with the panel."""
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
    """The arguments for games that are played one after another; UserError where the videos cannot be kept."""
    if arguments.out and not arguments.out.endswith(".mp4"):
        raise UserError(f"out: the name of a video ends with .mp4, unlike {arguments.out!r}")
    if not arguments.out:
        refuse_links(Path(arguments.run))
    return dataclasses.replace(arguments, env=dataclasses.replace(arguments.env, num_lanes=1, num_pools=1))


def _path(arguments: RecordArguments, name: str, *, alone: bool) -> Path:
    """Where the video ``name`` goes; ``alone`` where it is the only one."""
    if not arguments.out:
        return Path(arguments.run) / "videos" / f"{name}.mp4"
    out = Path(arguments.out)
    return out if alone else out.with_name(f"{out.stem}-{name}.mp4")


def _display(arguments: RecordArguments) -> VectorEnv:
    return make_env(frame_by_frame(arguments.env), COLORS, 1)


def _title(arguments: RecordArguments, iteration: int, game: int) -> str:
    return f"{arguments.env.game}, checkpoint {iteration}, game {game + 1}"


def _say_game(title: str, moves: Moves, env: EnvConfig) -> None:
    cut = ", where the time limit cut it" if len(moves.actions) >= env.max_episode_agent_steps else ""
    say(f"jaxpg: {title}: return {moves.rewards.sum():g}, {len(moves.actions)} agent steps{cut}")


def _say_video(video: VideoWriter, path: Path) -> None:
    say(f"jaxpg: {video.frames / FRAMES_PER_SECOND:.1f} s of video in {path}")


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
