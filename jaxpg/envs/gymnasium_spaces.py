"""What a Gymnasium environment's spaces mean for a policy: its actions, and what it sees."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from jaxpg.core.errors import FaultError, UserError
from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs.action_names import action_names_of

MOST_ACTIONS = 255
"""Most actions of an environment. A run keeps each action in a byte, one value of which stands for none."""
WRAP = "register an id of your own for it (docs/guides/environments.md)"
ALE_NAMES = "get_action_meanings"
"""Method with which ALE's environments, and those that follow them, tell the names of their actions."""


class Layout(NamedTuple):
    """The observations of one lane, as a policy gets them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    given_shape: tuple[int, ...]
    """Shape of one observation as the environment gives it."""
    given_dtype: np.dtype[Any]
    convert: Callable[[np.ndarray], np.ndarray]
    """Makes new arrays ``[N, *shape]`` from observations as the environments give them, ``[N, ...]``."""


def offered_actions(env: gymnasium.Env[Any, Any]) -> tuple[tuple[str, ...], int]:
    """Names of the environment's actions, and the number of its first action.

    The names are the environment's own if it tells any, those that Gymnasium documents, or else numbers.

    Raises:
      UserError: the actions are not numbered.
    """
    space, game = env.action_space, _game(env)
    if isinstance(space, Box):
        raise UserError(
            f"env.game: {game} has continuous actions, but a policy chooses among numbered ones; wrap it in "
            f"gymnasium.wrappers.DiscretizeAction, and {WRAP}"
        )
    if not isinstance(space, Discrete):
        raise UserError(
            f"env.game: {game} has actions of the kind {type(space).__name__}, but a policy chooses among numbered "
            f"ones; number them in a gymnasium.ActionWrapper, and {WRAP}"
        )
    num_actions = int(space.n)
    if num_actions > MOST_ACTIONS:
        raise UserError(f"env.game: {game} has {num_actions} actions, and jaxpg takes at most {MOST_ACTIONS}")
    names = tuple(getattr(env.unwrapped, ALE_NAMES)()) if hasattr(env.unwrapped, ALE_NAMES) else ()
    is_usable = len(set(names)) == num_actions and all(isinstance(name, str) for name in names)
    return names if is_usable else action_names_of(_package(env), game, num_actions), int(space.start)


def _package(env: gymnasium.Env[Any, Any]) -> str:
    """The package of Gymnasium's own environments, such as ``classic_control``; empty for all others."""
    module = type(env.unwrapped).__module__
    return module.split(".")[2] if module.startswith("gymnasium.envs.") else ""


def layout(env: gymnasium.Env[Any, Any], needs: EmulatorNeeds) -> Layout:
    """How the environment's observations are laid out for an observation that needs ``needs``.

    Raises:
      UserError: the observation needs something else, or jaxpg does not take observations of this kind.
    """
    space = env.observation_space
    kind, given = observation_kind(env)
    if needs.kind != kind:
        raise UserError(
            f"observation.name: {_game(env)} gives {given}, not {needs.kind}; use --observation.name {kind}"
        )
    if isinstance(space, Discrete):
        size, first = int(space.n), int(space.start)
        number = np.dtype(space.dtype)
        return Layout((size,), np.dtype(np.uint8), (), number, lambda numbers: _one_hot(numbers - first, size))
    assert space.shape is not None, "the shape of a Box is known"
    shape, given_dtype = space.shape or (1,), np.dtype(space.dtype)
    dtype = np.dtype(np.uint8 if given_dtype in (np.uint8, np.bool_) else np.float32)
    return Layout(
        shape, dtype, space.shape, given_dtype, lambda observation: np.array(observation, dtype).reshape(-1, *shape)
    )


def _one_hot(numbers: np.ndarray, size: int) -> np.ndarray:
    """``u8[N, size]``: 1 at each lane's number. Raises FaultError for a number that is not in ``[0, size)``."""
    wrong = np.flatnonzero((numbers < 0) | (numbers >= size))
    if wrong.size:
        lane = wrong[0]
        raise FaultError(f"lane {lane}: its observation is number {numbers[lane]} of {size}")
    return (numbers[:, None] == np.arange(size)).astype(np.uint8)


def observation_kind(env: gymnasium.Env[Any, Any]) -> tuple[str, str]:
    """The observation (vector or picture) that suits the environment, and words for what the environment gives.

    Raises:
      UserError: jaxpg takes no observations of this kind.
    """
    space: Space[Any] = env.observation_space
    if isinstance(space, Discrete):
        return "vector", f"one of {space.n} numbers"
    if isinstance(space, Box | MultiBinary) and len(space.shape) <= 1:
        return "vector", "a vector of numbers"
    if isinstance(space, Box | MultiBinary) and len(space.shape) <= 3:
        return "picture", f"a picture of {list(space.shape)}"
    flattens = isinstance(space, Box | Dict | Tuple | MultiBinary | MultiDiscrete)
    wrapper = (
        "gymnasium.wrappers.FlattenObservation" if flattens else "a gymnasium.ObservationWrapper that returns a Box"
    )
    shape = list(space.shape) if isinstance(space, Box) else ""
    raise UserError(
        f"env.game: {_game(env)} gives observations of the kind {type(space).__name__}{shape}, but a policy sees a "
        f"vector or a picture; wrap it in {wrapper}, and {WRAP}"
    )


def _game(env: gymnasium.Env[Any, Any]) -> str:
    return env.spec.id if env.spec else type(env).__name__
