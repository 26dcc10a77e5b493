"""EnvPool's environments besides Atari, as EnvPool's own registry describes them."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs.action_names import action_names_of
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool_registry import package_of, packages, registry
from jaxpg.envs.games import refuse_atari_settings

ATARI = "envpool.atari"
CONTINUOUS_SUITES = ("envpool.mujoco", "envpool.vizdoom")
"""Packages of EnvPool whose environments all take continuous actions."""
CUTTING_SUITES = ("envpool.classic_control", "envpool.box2d", "envpool.minigrid", "envpool.toy_text")
"""Packages of EnvPool that obey ``max_episode_steps``. The others end by their own rules alone, and with a lower limit
EnvPool would only call these ends truncations."""
NO_LIMIT = 2**31 - 1
"""EnvPool's time limit of environments that never end by time. Those of toy text ignore any other limit."""
MINIGRID_SCALE = np.array([25, 51, 85], np.uint8)
"""Brings MiniGrid's codes of objects (0 to 10), colours (0 to 5) and states (0 to 3) into the range of a byte."""


class Task(NamedTuple):
    """An environment with a discrete action space."""

    action_names: tuple[str, ...]
    kind: Literal["vector", "picture"]
    """What a policy is meant to see."""
    shape: tuple[int, ...]
    """Shape of one observation, as ``read`` gives it."""
    dtype: np.dtype
    max_episode_agent_steps: int
    """EnvPool's time limit; 0 where it depends on the level."""
    can_be_cut: bool
    """Whether EnvPool obeys a shorter limit."""
    read: Callable[[Any], Any]
    """Takes EnvPool's observations of all lanes and returns one array, on the host or in a compiled program."""
    remark: str = ""


@cache
def registered() -> dict[str, str]:
    """EnvPool's package of each task id that is not an Atari game."""
    return {task_id: package for task_id, package in packages().items() if package != ATARI}


def offered() -> list[str]:
    """The task ids to suggest: those of packages with discrete actions, older versions first."""
    return sorted(name for name, package in registered().items() if not package.startswith(CONTINUOUS_SUITES))


@cache
def task(game: str) -> Task:
    """Describes a registered environment.

    Raises:
      UserError: EnvPool cannot load it, or its actions or observations are of a kind that jaxpg does not take.
    """
    package = package_of(game)
    assert package, game
    try:
        spec = registry().make_spec(game)
    except (ImportError, RuntimeError, ValueError) as error:  # Procgen needs Qt 5, MJLab's tracking a file of motions
        raise UserError(f"env.game: EnvPool cannot load {game}: {str(error).strip().rstrip('.')}") from error
    with unbounded_spaces():
        _check_actions(game, spec)
        num_actions = int(spec.action_space.n)
        kind, shape, dtype, read, remark = _observations(game, spec.observation_space)
    limit = int(spec.config.max_episode_steps)
    can_be_cut = package in CUTTING_SUITES and limit < NO_LIMIT
    if "CliffWalking" in game:
        raise UserError(f"env.game: a game of {game} may last forever, and EnvPool sets it no time limit")
    names = action_names_of(package, game, num_actions)
    return Task(names, kind, shape, dtype, limit, can_be_cut, read, remark)


@contextlib.contextmanager
def unbounded_spaces() -> Iterator[None]:
    """Silences Gymnasium's warning that EnvPool casts the float64 bounds of spaces, which nobody reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting to float32")
        yield


def options(config: EnvConfig, needs: EmulatorNeeds) -> dict[str, Any]:
    """EnvPool's options for ``config.game``.

    Raises:
      UserError: the environment does not give what the observation needs, or a setting belongs to Atari games.
    """
    described = task(config.game)
    refuse_atari_settings(config)
    can_be_drawn = len(described.shape) in (2, 3)
    if needs.kind != described.kind and not (needs.kind == "picture" and can_be_drawn):
        what = "a picture" if described.kind == "picture" else "a vector of numbers"
        raise UserError(
            f"observation.name: {config.game} gives {what}; use --observation.name {described.kind}, or train without "
            f"a recipe, which chooses one for {config.game}"
        )
    return _time_limit(config, described)


def _time_limit(config: EnvConfig, described: Task) -> dict[str, int]:
    own, asked = described.max_episode_agent_steps, config.max_episode_agent_steps
    if described.can_be_cut and (own or asked < EnvConfig.max_episode_agent_steps):
        return {"max_episode_steps": min(asked, own or asked)}
    if not described.can_be_cut and asked < min(own, EnvConfig.max_episode_agent_steps):
        raise UserError(
            f"env.max_episode_agent_steps: EnvPool cannot cut a game of {config.game}, which ends by its own rules"
            f"{'' if own == NO_LIMIT else f' within {own} agent steps'}; leave this setting out"
        )
    return {}


def _check_actions(game: str, spec: Any) -> None:
    if hasattr(spec.action_space, "n"):
        if spec.config.max_num_players > 1:
            raise UserError(f"env.game: {game} is for several players, and a policy of jaxpg plays alone")
        return
    sibling = game.replace("Continuous", "")
    instead = f"; {sibling} takes one of a few" if sibling != game and package_of(sibling) else ""
    kind = "continuous actions" if spec.action_space.dtype.kind == "f" else "several numbers as one action"
    raise UserError(f"env.game: {game} takes {kind}, and a policy of jaxpg chooses one of a few{instead}")


def _observations(game: str, space: Any) -> tuple[Any, tuple[int, ...], np.dtype, Callable[[Any], Any], str]:
    """The kind, shape, dtype, reader and remark of an environment's observations."""
    if hasattr(space, "spaces"):
        if package_of(game) == "envpool.minigrid":
            image = space.spaces["image"]
            remark = f"{game}: the policy sees the picture around the agent, and neither its direction nor its mission"
            return "picture", image.shape, image.dtype, lambda given: given["image"] * MINIGRID_SCALE, remark
        raise UserError(
            f"env.game: {game} gives several arrays at once ({', '.join(space.spaces)}), and a policy of jaxpg takes "
            "one; a Gymnasium environment with FlattenObservation would do"
        )
    if not space.shape:  # a number, of which a network makes nothing; so it is written as a vector with a single 1
        numbers = np.arange(space.n)
        return "vector", (int(space.n),), np.dtype(bool), lambda given: given[..., None] == numbers, ""
    shape, dtype = tuple(space.shape), np.dtype(bool) if type(space).__name__ == "MultiBinary" else space.dtype
    kind = "picture" if dtype == np.uint8 and len(shape) == 3 else "vector"
    return kind, shape, dtype, lambda given: given, ""


def laid_out(described: Task, needs: EmulatorNeeds) -> tuple[int, ...]:
    """Shape of one raw observation: a vector's numbers lie in one row."""
    return described.shape if needs.kind == "picture" else (prod(described.shape),)
