"""Plays an episode for a recording: first through the kernel, and then once more frame by frame to get pictures."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, Params, VectorEnv
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import CandidateQueue, beginning
from jaxpg.kernel.rollout import AGENT_STEPS_PER_LOOK
from jaxpg.machine.memory_estimate import Part, check_memory
from jaxpg.machine.waiting import count_up
from jaxpg.viewing.drawn_observation import drawn_frames

SEGMENT = 2**31 + 1
"""Number of the segment from which the seeds of recorded episodes are made. Neither training nor evaluation reaches it.
"""
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
    observations: np.ndarray | None = None  # [T, ...], the policy's inputs, which are drawn where there is no picture


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


def frames_of_agent_steps(display: VectorEnv | None, moves: Moves, frame_skip: int) -> Iterator[list[np.ndarray]]:
    """Plays an episode again and yields the frames of each agent step, each ``uint8[H, W, 3]``.

    Args:
      display: a pool of one lane with the settings of ``frame_by_frame`` and pictures in colour. None for an
        environment without pictures, whose observations are drawn.
      moves: the episode.
      frame_skip: how many frames an agent step had when the episode was played.

    Raises:
      UserError: the rewards show that this is not the same episode.
    """
    if display is None:
        assert moves.observations is not None, "something must be shown"
        yield from drawn_frames(moves.observations)
        return
    display.reset(lane_seeds(moves.seed, SEGMENT, 1))
    step = display.recv()
    for t, action in enumerate(moves.actions):
        frames, reward = [], 0.0
        for _ in range(frame_skip):
            frames.append(_colors(step.observation[0], display.spec.axes))
            display.send(np.array([action]))
            step = display.recv()
            reward += float(step.reward[0])
            if step.terminated[0] or step.truncated[0]:
                break
        if reward != moves.rewards[t]:
            raise UserError(
                f"agent step {t} of the game cannot be repeated frame by frame for the video; "
                "with no-ops the ale backend can do so for pixels only"
            )
        yield frames


def _colors(raw: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Copies one raw observation into a picture, ``uint8[210, 160, 3]``."""
    return np.moveaxis(np.transpose(raw, axes)[0], 0, -1)
