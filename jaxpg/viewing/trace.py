"""The numbers beside a video: what was done in each agent step, and what the learner would credit it with."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.config import Config, own_section
from jaxpg.core.errors import UserError
from jaxpg.envs.config import EnvConfig
from jaxpg.learners.registry import LEARNERS
from jaxpg.machine.durable_files import write_json
from jaxpg.viewing.replayed_episode import PlayedEpisode

KEYS = {"checkpoint", "actions", "seed", "env", "action_names", "games"}


def trace_path(video: Path) -> Path:
    """Where the trace of a video is kept.

    Raises:
      UserError: a file of another kind, such as a run's summary.json, has this name.
    """
    path = video.with_suffix(".json")
    try:
        stands_there = json.loads(path.read_text(encoding="utf-8")).keys() if path.exists() else KEYS
    except (OSError, ValueError, AttributeError):
        stands_there = set()
    if not stands_there >= KEYS:
        raise UserError(f"{path}: is no trace of a video and would be replaced by one; give the video another name")
    return path


def write_trace(path: Path, about: dict[str, Any], games: list[dict[str, Any]]) -> None:
    """Writes the trace of a whole video, old or new and never half; UserError where it cannot be written."""
    try:
        write_json(path, {**about, "games": games})
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def trace_of_game(played: PlayedEpisode, config: Config, *, has_value: bool) -> dict[str, Any]:
    """One game's part of a trace: a number, or A probabilities, for each of its T agent steps."""
    return {
        "return": float(played.rewards.sum(dtype=np.float64)),
        "rewards": played.rewards.tolist(),
        "actions": played.actions.tolist(),
        "probabilities": _rounded(played.probabilities, 4),
        "values": _rounded(played.values, 6) if has_value else None,
        "returns_to_go": _rounded(returns_to_go(config, played.rewards, played.life_lost), 6),
    }


def returns_to_go(config: Config, rewards: np.ndarray, life_lost: np.ndarray) -> np.ndarray:
    """What follows each agent step of a whole game, as the run's learner counts it.

    Args:
      config: of the run.
      rewards: ``f32[T]``, unclipped.
      life_lost: ``bool[T]``.

    Returns:
      ``f32[T]``.
    """
    return LEARNERS[config.run.learner].returns_to_go(own_section(config), rewards, life_lost)


def about_video(checkpoint: int, env: EnvConfig, *, greedy: bool, seed: int, action_names: list[str]) -> dict[str, Any]:
    """What holds for all games of a video."""
    return {
        "checkpoint": checkpoint,
        "env": dataclasses.asdict(env),
        "actions": "greedy" if greedy else "sampled",
        "seed": seed,
        "action_names": action_names,
    }


def _rounded(numbers: np.ndarray, decimals: int) -> Any:
    return np.round(numbers.astype(np.float64), decimals).tolist()
