"""Films checkpoints: plays whole episodes with their policies, and writes them as videos."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxpg.config import Config
from jaxpg.core.types import VectorEnv
from jaxpg.envs.config import EnvConfig
from jaxpg.kernel.pieces import Experiment
from jaxpg.machine.console import say
from jaxpg.machine.waiting import count_up
from jaxpg.run.saved_run import Restored
from jaxpg.viewing.grid import Grid, Shot, pictures
from jaxpg.viewing.member_logs import config_of
from jaxpg.viewing.panel import GAME_SIZE, SIZE, Moment, Panel, scale_game
from jaxpg.viewing.replayed_episode import Moves, PlayedEpisode, display_for, frames_of_agent_steps, play
from jaxpg.viewing.trace import about_video, trace_of_game, trace_path, write_trace
from jaxpg.viewing.video import FRAMES_PER_SECOND, VideoWriter, video_place, write_video


class Filming(NamedTuple):
    """What the videos of all checkpoints have in common."""

    config: Config  # the configuration of the run
    env: EnvConfig  # the settings of the episodes: one lane
    experiment: Experiment  # with one lane, whose rollout keeps its tape
    episodes: int  # how many whole episodes a video shows
    seed: int  # the episodes are a function of this number, the policy and env


def film_checkpoints(filming: Filming, checkpoints: Collection[Restored], paths: Mapping[int, Path]) -> None:
    """Writes a video of each checkpoint, and its trace beside it.

    Args:
      filming: what all videos have in common.
      checkpoints: the policies.
      paths: the path of each iteration's video.

    Raises:
      UserError: a video or a trace cannot be written. All paths are checked before any episode is played.
    """
    with ExitStack() as places:
        for path in paths.values():
            places.enter_context(video_place(path))
            trace_path(path)
        display = places.enter_context(closing(_display(filming)))
        for restored in checkpoints:
            _film_checkpoint(filming, display, restored, paths[restored.iteration])


def film_grid(filming: Filming, checkpoints: Collection[Restored], path: Path) -> None:
    """Writes one video of all checkpoints. Each checkpoint has its own emulator, so that no frame is kept in memory.

    Args:
      filming: what all tiles have in common.
      checkpoints: the policies.
      path: where the video goes.

    Raises:
      UserError: the video cannot be written. The path is checked before any episode is played.
    """
    grid = Grid(len(checkpoints))
    with video_place(path), write_video(path, grid.size) as video, ExitStack() as opened:
        tiles = []
        for restored in checkpoints:
            games: dict[str, Moves] = {}
            for game in range(filming.episodes):
                title = _title(filming.env, restored.iteration, game)
                played = play(filming.experiment, restored.params, filming.seed + game)
                games[title] = Moves(filming.seed + game, played.actions, played.rewards)
                _say_game(title, games[title], filming.env)
            display = opened.enter_context(closing(_display(filming)))
            tiles.append(_shots(games, display, filming.experiment.frame_skip))
        with count_up("frames_filmed") as filmed:
            for picture in pictures(grid, tiles):
                video.write(picture)
                filmed(1)
    _say_video(video, path)


def _film_checkpoint(filming: Filming, display: VectorEnv, restored: Restored, path: Path) -> None:
    """Writes the video of one checkpoint, and then the trace beside it."""
    experiment, env = filming.experiment, filming.env
    names, iteration, member = list(experiment.task.actions), restored.iteration, restored.member
    config = filming.config if member is None else config_of(filming.config, member)
    trace, panel, games = trace_path(path), Panel(names), []
    with write_video(path, SIZE) as video:
        for game in range(filming.episodes):
            title = _title(env, iteration, game)
            played = play(experiment, restored.params, filming.seed + game)
            played = played._replace(values=restored.value_scale.returns_of(played.values))
            moves = Moves(filming.seed + game, played.actions, played.rewards)
            _film(played, experiment, frames_of_agent_steps(display, moves, experiment.frame_skip), panel, video, title)
            games.append(trace_of_game(played, config, has_value=experiment.policy.has_value))
            _say_game(title, moves, env)
    about = about_video(iteration, env, actions=experiment.acts, seed=filming.seed, action_names=names)
    write_trace(trace, about | ({} if member is None else {"member": member}), games)
    _say_video(video, path)


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
    picture = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
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
            picture[:, GAME_SIZE[0] :] = panel.draw(moment)
            for frame in frames:
                picture[:, : GAME_SIZE[0]] = scale_game(frame, GAME_SIZE)
                video.write(picture)
            score += float(played.rewards[t])
            seconds += len(frames) / FRAMES_PER_SECOND
            filmed(1)


def _shots(games: Mapping[str, Moves], display: VectorEnv, frame_skip: int) -> Iterator[Shot]:
    """Yields the shots of one tile, which shows ``games`` one after another; the keys of ``games`` are their titles."""
    for title, moves in games.items():
        score, frames_shown = 0.0, 0
        for t, frames in enumerate(frames_of_agent_steps(display, moves, frame_skip)):
            score += float(moves.rewards[t])
            for frame in frames:
                yield Shot(title, score, frames_shown / FRAMES_PER_SECOND, frame)
                frames_shown += 1


def _display(filming: Filming) -> VectorEnv:
    return display_for(filming.env, filming.experiment.observation.needs)


def _title(env: EnvConfig, iteration: int, game: int) -> str:
    return f"{env.game}, checkpoint {iteration}, game {game + 1}"


def _say_game(title: str, moves: Moves, env: EnvConfig) -> None:
    cut = ", where the time limit cut it" if len(moves.actions) >= env.max_episode_agent_steps else ""
    say(f"jaxpg: {title}: return {moves.rewards.sum():g}, {len(moves.actions)} agent steps{cut}")


def _say_video(video: VideoWriter, path: Path) -> None:
    say(f"jaxpg: {video.frames / FRAMES_PER_SECOND:.1f} s of video in {path}")
