"""Plays an episode for a recording: first through the kernel, and then once more frame by frame to get pictures."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import DrawingEnv, EmulatorNeeds, Params, TimeStep, VectorEnv
from jaxpg.envs import make_display, make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import CandidateQueue, beginning
from jaxpg.kernel.rollout import AGENT_STEPS_PER_LOOK
from jaxpg.machine.memory_estimate import Part, check_memory
from jaxpg.machine.waiting import count_up
from jaxpg.viewing.drawn_observation import draw_observation
from jaxpg.viewing.video import FRAMES_PER_SECOND

SEGMENT = 2**31 + 1
"""Number of the segment from which the seeds of recorded episodes are made. Neither training nor evaluation reaches it.
"""
SLOWEST, FASTEST = 3.0, 30.0
"""Agent steps a second at which environments other than Atari are shown, where they do not say their own speed."""
SHORTEST_SECONDS = 4.0
"""How long such an episode lasts at least, if the slowest speed is enough for that."""
COLORS = EmulatorNeeds(kind="pixels", height=210, width=160, color="rgb")


class PlayedEpisode(NamedTuple):
    """What happened in each of an episode's T agent steps."""

    encoded: np.ndarray  # [T, ...], the observations as the tape stores them
    probabilities: np.ndarray  # f32[T, A]
    values: np.ndarray  # f32[T]
    actions: np.ndarray  # i32[T]
    rewards: np.ndarray  # f32[T]
    life_lost: np.ndarray  # bool[T]


class Moves(NamedTuple):
    """What is needed to play an episode of T agent steps again."""

    seed: int  # seed of the recording
    actions: np.ndarray  # i32[T]
    rewards: np.ndarray  # f32[T], for checking that the second episode is the same as the first


def play(experiment: Experiment, params: Params, seed: int) -> PlayedEpisode:
    """Plays one whole episode through the kernel; the episode is a function of the policy and ``seed``."""
    key = jax.random.key(seed)
    one = jax.tree.map(lambda x: x[None], params)
    experiment.rollout.reset(lane_seeds(seed, SEGMENT, 1))
    queue = CandidateQueue(beginning(np.zeros(1, np.int64), 1, num_groups=1), lambda ids: one)
    parts: list[PlayedEpisode] = []
    with count_up("agent_steps_played") as stepped:
        while not queue.finished:
            part_key = jax.random.fold_in(key, len(parts))
            experience, _ = experiment.rollout.collect(queue, AGENT_STEPS_PER_LOOK, part_key)
            assert experience.tape is not None, "a recording keeps the tape"
            acted = np.flatnonzero(experience.acted[:, 0])
            tape = jax.tree.map(lambda x: x[:AGENT_STEPS_PER_LOOK, 0], experience.tape)
            probabilities = jax.nn.softmax(tape.logits)
            columns = jax.device_get((tape.observation, probabilities, tape.value, tape.action))
            outcomes = (experience.reward[:, 0], experience.life_lost[:, 0])
            parts.append(PlayedEpisode(*(column[acted] for column in (*columns, *outcomes))))
            stepped(acted.size)
            steps, num_bytes = sum(part.actions.size for part in parts), sum(part.encoded.nbytes for part in parts)
            check_memory([Part("env.max_episode_agent_steps", f"{steps} agent steps of a game, joined", num_bytes)])
    return PlayedEpisode(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def frame_by_frame(env: EnvConfig) -> EnvConfig:
    """Returns emulator settings with which one agent step is one frame.

    With the same seed, and with each action repeated for every frame of its agent step, the episode is the same.
    """
    limit = env.max_episode_agent_steps * env.frame_skip
    return dataclasses.replace(env, frame_skip=1, maxpool=False, max_episode_agent_steps=limit)


def display_for(env: EnvConfig, needs: EmulatorNeeds) -> VectorEnv:
    """Makes a pool of one lane that shows episodes: an Atari game frame by frame, any other environment as it can.

    Args:
      env: the settings of the environment.
      needs: what the policy's observation needs.
    """
    is_atari = needs.kind in ("pixels", "ram")
    return make_env(frame_by_frame(env), COLORS, 1) if is_atari else make_display(env, needs)


def frames_of_agent_steps(display: VectorEnv, moves: Moves, frame_skip: int) -> Iterator[list[np.ndarray]]:
    """Plays an episode again and yields the frames of each agent step, each ``uint8[H, W, 3]``, 60 a second.

    Args:
      display: from ``display_for``.
      moves: the episode.
      frame_skip: how many frames an agent step had when the episode was played.

    Raises:
      UserError: the rewards show that this is not the same episode.
    """
    display.reset(lane_seeds(moves.seed, SEGMENT, 1))
    step = display.recv()
    times = frames_per_picture(display, len(moves.actions))
    for t, action in enumerate(moves.actions):
        frames, reward = [], 0.0
        for _ in range(frame_skip):
            frames += times * [_picture(display, step)]
            display.send(np.array([action]))
            step = display.recv()
            reward += float(step.reward[0])
            if step.terminated[0] or step.truncated[0]:
                break
        if reward != moves.rewards[t]:
            why = (
                "with no-ops the ale backend can do so for pixels only"
                if _is_atari(display)
                else "the same seed and actions led to another reward, so the environment is not deterministic"
            )
            raise UserError(f"agent step {t} of the game cannot be repeated frame by frame for the video; {why}")
        yield frames


def _is_atari(display: VectorEnv) -> bool:
    return len(display.spec.axes) == 4  # frames of colours, rows and columns


def frames_per_picture(display: VectorEnv, num_agent_steps: int) -> int:
    """How many frames show each picture of the display, so that an episode lasts about as long as it should.

    Where an environment says no speed of its own, a short episode is slow enough to be followed.
    """
    if _is_atari(display):
        return 1
    rate = display.agent_steps_per_second if isinstance(display, DrawingEnv) else None
    slow = min(max(num_agent_steps / SHORTEST_SECONDS, SLOWEST), FASTEST)
    return max(round(FRAMES_PER_SECOND / (rate or slow)), 1)


def _picture(display: VectorEnv, step: TimeStep) -> np.ndarray:
    """Picture of the display at ``step``, ``uint8[H, W, 3]``."""
    observation = np.transpose(step.observation[0], display.spec.axes)
    if _is_atari(display):
        return np.moveaxis(observation[0], 0, -1)
    picture = display.picture() if isinstance(display, DrawingEnv) else None
    return draw_observation(observation) if picture is None else picture
