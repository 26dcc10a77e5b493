"""``python -m jaxpg.record``: a video of a run's policy at play, with what it sees and what it means to do."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import numpy as np
import tyro

from jaxpg.candidates import CandidateQueue
from jaxpg.cli import run_command
from jaxpg.compiled import keep_compiled_code
from jaxpg.config import Config
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import action_names
from jaxpg.errors import UserError
from jaxpg.experiment import GREEDY, Actions, Experiment, Player, build, lane_seeds
from jaxpg.observations import Observation
from jaxpg.panel import GAME_SIZE, PANEL_WIDTH, Moment, Panel, scale_game
from jaxpg.progress import count_up
from jaxpg.rollout import AGENT_STEPS_PER_LOOK
from jaxpg.saved import parse_play, restore_params
from jaxpg.types import EmulatorNeeds, Params, PolicyFunctions, VectorEnv
from jaxpg.video import FRAMES_PER_SECOND, VideoWriter, write_video

SEGMENT = 2**31 + 1
"""Where the seeds of recorded games come from: a segment that no training and no evaluation reaches."""
COLORS = EmulatorNeeds(kind="pixels", height=210, width=160, color="rgb")


@dataclasses.dataclass(frozen=True)
class RecordArguments:
    """Records whole games of a run's policy: the game in its own colours at true speed, beside it the actions'
    probabilities, the value, the score, and what the policy sees.
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder."""
    checkpoint: tuple[str, ...] = ("latest",)
    """Checkpoints, each in a video of its own: iterations, latest, or best."""
    episodes: int = 1
    """Whole games in a video."""
    out: str = ""
    """MP4 file, with several checkpoints the first part of its name; empty for videos/ in the run folder."""
    actions: Actions = "trained"
    """Sampled from the policy, greedy for the most probable one, or as the learner took them."""
    seed: int = 0
    """The games are a function of this number and the policy."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)


class Played(NamedTuple):
    """A whole game, agent step by agent step (T of them)."""

    encoded: np.ndarray  # [T, ...], what the policy saw, as the tape keeps it
    probabilities: np.ndarray  # f32[T, A]
    values: np.ndarray  # f32[T]
    actions: np.ndarray  # i32[T]
    rewards: np.ndarray  # f32[T]


def record(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    arguments, config = _parse(argv)
    panel = Panel(action_names(arguments.env))
    keep_compiled_code()
    experiment = build(config, Player(arguments.env, GREEDY[arguments.actions], keeps_tape=True))
    display = make_env(_frame_by_frame(arguments.env), COLORS, 1)
    restored = [restore_params(Path(arguments.run), experiment, which) for which in arguments.checkpoint]
    for params, iteration in restored:
        path = _path(arguments, iteration)
        with write_video(path, (GAME_SIZE[0] + PANEL_WIDTH, GAME_SIZE[1])) as video:
            for game in range(arguments.episodes):
                seeds = lane_seeds(arguments.seed + game, SEGMENT, 1)
                played = _play(experiment, params, seeds, jax.random.key(arguments.seed + game))
                title = f"{arguments.env.game}, checkpoint {iteration}, game {game + 1}"
                _film(played, experiment, display, seeds, panel, video, title)
                print(f"jaxpg: {title}: return {played.rewards.sum():g}, {len(played.actions)} agent steps", flush=True)
        print(f"jaxpg: {video.frames / FRAMES_PER_SECOND:.1f} s of video in {path}", flush=True)
    display.close()
    experiment.rollout.close()
    return 0


def _parse(argv: Sequence[str]) -> tuple[RecordArguments, Config]:
    arguments, config = parse_play("record", argv, RecordArguments())
    if arguments.out and not arguments.out.endswith(".mp4"):
        raise UserError(f"out: the name of a video ends with .mp4, unlike {arguments.out!r}")
    return dataclasses.replace(arguments, env=dataclasses.replace(arguments.env, num_lanes=1, num_pools=1)), config


def _path(arguments: RecordArguments, iteration: int) -> Path:
    if not arguments.out:
        return Path(arguments.run) / "videos" / f"{iteration}.mp4"
    out = Path(arguments.out)
    return out.with_name(f"{out.stem}-{iteration}.mp4") if len(arguments.checkpoint) > 1 else out


def _frame_by_frame(env: EnvConfig) -> EnvConfig:
    """The same game one emulator frame at a time: with the same seed and actions it is the same game."""
    limit = env.max_episode_agent_steps * env.frame_skip
    return dataclasses.replace(env, frame_skip=1, maxpool=False, max_episode_agent_steps=limit)


def _play(experiment: Experiment, params: Params, seeds: np.ndarray, key: jax.Array) -> Played:
    """One whole game through the kernel."""
    one = jax.tree.map(lambda x: x[None], params)
    experiment.rollout.reset(seeds)
    queue = CandidateQueue(np.zeros(1, np.int64), 1, lambda ids: one)
    parts: list[Played] = []
    with count_up("agent_steps_played") as stepped:
        while not queue.finished:
            part_key = jax.random.fold_in(key, len(parts))
            experience, _ = experiment.rollout.collect(queue, AGENT_STEPS_PER_LOOK, part_key)
            assert experience.tape is not None, "a recording keeps the tape"
            acted = np.flatnonzero(experience.acted[:, 0])
            tape = jax.tree.map(lambda x: x[:AGENT_STEPS_PER_LOOK, 0], experience.tape)
            probabilities = _probabilities(experiment.policy, experiment.observation, params, tape.observation)
            columns = jax.device_get((tape.observation, probabilities, tape.value, tape.action))
            parts.append(Played(*(column[acted] for column in (*columns, experience.reward[:, 0]))))
            stepped(acted.size)
    return Played(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@partial(jax.jit, static_argnames=("policy", "observation"))  # compiled once, however many games are recorded
def _probabilities(policy: PolicyFunctions, observation: Observation, params: Params, encoded: jax.Array) -> jax.Array:
    """``[T, ...]`` observations as the tape keeps them -> ``f32[T, A]``."""
    return jax.vmap(lambda x: jax.nn.softmax(policy.apply(params, observation.decode(x))[0]))(encoded)


def _film(
    played: Played,
    experiment: Experiment,
    display: VectorEnv,
    seeds: np.ndarray,
    panel: Panel,
    video: VideoWriter,
    title: str,
) -> None:
    """Plays the game again, frame by frame in its own colours, and writes it with the panel."""
    decode = jax.jit(experiment.observation.decode)
    score, seconds = 0.0, 0.0
    with count_up("agent_steps_filmed", len(played.actions)) as filmed:
        for t, frames in enumerate(_frames_of_agent_steps(display, seeds, played, experiment.frame_skip)):
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
                video.write(np.concatenate([scale_game(frame), beside], axis=1))
            score += float(played.rewards[t])
            seconds += len(frames) / FRAMES_PER_SECOND
            filmed(1)


def _frames_of_agent_steps(
    display: VectorEnv, seeds: np.ndarray, played: Played, frame_skip: int
) -> Iterator[list[np.ndarray]]:
    """The frames on the screen during each agent step, ``uint8[210, 160, 3]``.

    Raises:
      UserError: the game on the screen is not the one that was played.
    """
    display.reset(seeds)
    step = display.recv()
    for t, action in enumerate(played.actions):
        frames, reward = [], 0.0
        for _ in range(frame_skip):
            frames.append(_colors(step.observation[0], display.spec.axes))
            display.send(np.array([action]))
            step = display.recv()
            reward += float(step.reward[0])
            if step.terminated[0] or step.truncated[0]:
                break
        if reward != played.rewards[t]:
            raise UserError(
                f"agent step {t} of the game cannot be repeated frame by frame for the video; "
                "with no-ops the ale backend can do so for pixels only"
            )
        yield frames


def _colors(raw: np.ndarray, axes: tuple[int, ...]) -> Any:
    return np.moveaxis(np.transpose(raw, axes)[0], 0, -1)


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(record, argv)


if __name__ == "__main__":
    main()
