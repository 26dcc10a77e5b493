"""A recorded game: played once through the kernel, then once more frame by frame, to be seen."""

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

SEGMENT = 2**31 + 1
"""Where the seeds of recorded games come from: a segment that no training and no evaluation reaches."""
COLORS = EmulatorNeeds(kind="pixels", height=210, width=160, color="rgb")


class PlayedEpisode(NamedTuple):
    """A whole game, agent step by agent step (T of them)."""

    encoded: np.ndarray  # [T, ...], what the policy saw, as the tape keeps it
    probabilities: np.ndarray  # f32[T, A]
    values: np.ndarray  # f32[T]
    actions: np.ndarray  # i32[T]
    rewards: np.ndarray  # f32[T]
    life_lost: np.ndarray  # bool[T]


class Moves(NamedTuple):
    """What it takes to play a game of T agent steps again."""

    seed: int  # of the recording
    actions: np.ndarray  # i32[T]
    rewards: np.ndarray  # f32[T], to see that it is the same game


def play(experiment: Experiment, params: Params, seed: int) -> PlayedEpisode:
    """Plays one whole game through the kernel; it is a function of the policy and ``seed``."""
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
    """The same game one emulator frame at a time: with the same seed and actions it is the same game."""
    limit = env.max_episode_agent_steps * env.frame_skip
    return dataclasses.replace(env, frame_skip=1, maxpool=False, max_episode_agent_steps=limit)


def frames_of_agent_steps(display: VectorEnv, moves: Moves, frame_skip: int) -> Iterator[list[np.ndarray]]:
    """The frames on the screen during each agent step, ``uint8[210, 160, 3]``.

    Args:
      display: one lane of the game ``frame_by_frame``, in colours.
      moves: the game.
      frame_skip: with which it was played.

    Raises:
      UserError: the game on the screen is not the one that was played.
    """
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
    """One raw observation as a picture that stays as it is, ``uint8[210, 160, 3]``."""
    return np.moveaxis(np.transpose(raw, axes)[0], 0, -1)
