"""Backend for gymnax: classic control, bsuite and MinAtar, written in JAX."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax

from jaxpg.core.errors import UserError, check_name, first_line
from jaxpg.core.types import JaxEnvironment, JaxStep
from jaxpg.envs.action_names import action_names_of
from jaxpg.envs.config import EnvConfig

NO_LIMIT = 2**31 - 1
"""gymnax's time limit that is never reached. Before version 1, gymnax did not tell a time limit from a real end, and
games of MinAtar store the end in their state; so jaxpg keeps the limit itself."""
SHOWS_TIME = ("DiscountingChain-bsuite",)
"""Environments whose observation is the share of the limit that is over. There the limit is a rule, and a real end."""
MINATAR = "-MinAtar"
MINATAR_ACTIONS = ("NOOP", "LEFT", "UP", "RIGHT", "DOWN", "FIRE")


def gymnax(config: EnvConfig) -> JaxEnvironment:
    """One lane of the gymnax environment ``config.game``, such as ``CartPole-v1`` or ``Breakout-MinAtar``.

    The objects of MinAtar are or are not in a cell, so its observations are bool, which takes a quarter of the memory.

    Raises:
      UserError: gymnax is not installed, has no such environment, or its actions are not discrete.
    """
    env, params = _made(config.game)
    limit = int(params.max_steps_in_episode)
    endless = params if config.game in SHOWS_TIME else params.replace(max_steps_in_episode=NO_LIMIT)
    is_minatar = config.game.endswith(MINATAR)

    def seen(observation: jax.Array) -> jax.Array:
        return observation > 0 if is_minatar else observation

    def reset(key: jax.Array) -> tuple[Any, jax.Array]:
        with quiet():
            observation, state = env.reset_env(key, endless)
        return state, seen(observation)

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, JaxStep]:
        with quiet():
            observation, state, reward, ended, _ = env.step_env(key, state, action, endless)
        return state, JaxStep(seen(observation), reward, ended)

    return JaxEnvironment(
        reset,
        step,
        num_actions=int(env.action_space(params).n),
        action_names=_action_names(env, config.game, int(env.action_space(params).n)),
        max_episode_agent_steps=limit,
    )


def _action_names(env: Any, game: str, num_actions: int) -> tuple[str, ...]:
    if game.endswith(MINATAR):
        return tuple(MINATAR_ACTIONS[action] for action in env.action_set.tolist())
    return action_names_of(type(env).__module__.split(".")[2], game, num_actions)


def kind(game: str) -> Literal["vector", "picture"]:
    """What the environment shows a policy.

    Most environments are only traced for that, which starts none of JAX's devices: the processes of a run must find
    each other before a device starts. An environment that JAX cannot trace is made in earnest.

    Raises:
      UserError: as for ``gymnax``.
    """
    shapes: list[tuple[int, ...]] = []

    def look() -> tuple[()]:
        env, params = _made(game)
        shapes.append(env.observation_space(params).shape)
        return ()

    try:
        jax.eval_shape(look)
    except Exception:
        look()
    return "vector" if len(shapes[-1]) <= 1 else "picture"


def _made(game: str) -> tuple[Any, Any]:
    """Makes the environment of gymnax, and its parameters."""
    try:
        import gymnax  # imported here, because it is an extra
        from gymnax.environments import spaces
    except ImportError as error:
        raise UserError("env.backend: gymnax is not installed; pip install 'jaxpg[jax-envs]'") from error
    check_name("env.game", game, gymnax.registered_envs)
    try:
        env, params = gymnax.make(game)
    except Exception as error:
        raise UserError(f"env.game: gymnax cannot make {game}: {first_line(error)}") from error
    if not isinstance(env.action_space(params), spaces.Discrete):
        raise UserError(
            f"env.game: an action of {game} is not one of a few, but numbers; jaxpg plays environments with discrete "
            "actions, such as CartPole-v1 and Breakout-MinAtar"
        )
    return env, params


@contextmanager
def quiet() -> Iterator[None]:
    """Silences JAX's warnings about dtypes that gymnax mixes or asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="scatter inputs have incompatible types", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Explicitly requested dtype", category=UserWarning)
        yield
