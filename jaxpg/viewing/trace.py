"""Writes the trace of a video: a JSON file with the numbers of each agent step."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.config import Config, own_section
from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_json
from jaxpg.envs.config import EnvConfig
from jaxpg.learners.registry import LEARNERS
from jaxpg.machine.durable_files import write_json
from jaxpg.viewing.replayed_episode import PlayedEpisode

KEYS = {"checkpoint", "actions", "seed", "env", "action_names", "games"}


def trace_path(video: Path) -> Path:
    """Returns the path of a video's trace.

    Raises:
      UserError: a file of another kind, such as a run's ``summary.json``, has this path.
    """
    path = video.with_suffix(".json")
    try:
        stands_there = read_json(path).keys() if path.exists() else KEYS
    except (OSError, ValueError, AttributeError):
        stands_there = set()
    if not stands_there >= KEYS:
        raise UserError(f"{path}: is no trace of a video and would be replaced by one; give the video another name")
    return path


def write_trace(path: Path, about: dict[str, Any], games: list[dict[str, Any]]) -> None:
    """Writes the trace of a video in one piece, so that no reader finds half a file.

    Args:
      path: where the trace goes.
      about: what ``about_video`` returns.
      games: what ``trace_of_game`` returns for each game of the video.

    Raises:
      UserError: the trace cannot be written.
    """
    try:
        write_json(path, {**about, "games": games})
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def trace_of_game(played: PlayedEpisode, config: Config, *, has_value: bool) -> dict[str, Any]:
    """Makes one game's part of a trace, with a number, or A probabilities, for each of its T agent steps.

    Args:
      played: the episode.
      config: the configuration of the run, which says how returns-to-go are computed.
      has_value: whether the policy has a value head; without one, ``values`` is None.
    """
    return {
        "return": float(played.rewards.sum(dtype=np.float64)),
        "rewards": played.rewards.tolist(),
        "actions": played.actions.tolist(),
        "probabilities": _rounded(played.probabilities, 4),
        "values": _rounded(played.values, 6) if has_value else None,
        "returns_to_go": _rounded(returns_to_go(config, played.rewards, played.life_lost), 6),
    }


def returns_to_go(config: Config, rewards: np.ndarray, life_lost: np.ndarray) -> np.ndarray:
    """Computes the return-to-go of each agent step of a whole episode, as the run's learner defines it.

    Args:
      config: the configuration of the run.
      rewards: the unclipped rewards, ``f32[T]``.
      life_lost: whether a life was lost in each agent step, ``bool[T]``.

    Returns:
      The returns-to-go, ``f32[T]``.
    """
    return LEARNERS[config.run.learner].returns_to_go(own_section(config), rewards, life_lost)


def about_video(checkpoint: int, env: EnvConfig, *, actions: str, seed: int, action_names: list[str]) -> dict[str, Any]:
    """Makes the part of a trace that describes all games of a video."""
    return {
        "checkpoint": checkpoint,
        "env": dataclasses.asdict(env),
        "actions": actions,
        "seed": seed,
        "action_names": action_names,
    }


def _rounded(numbers: np.ndarray, decimals: int) -> Any:
    return np.round(numbers.astype(np.float64), decimals).tolist()
