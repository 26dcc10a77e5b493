"""Lanes of ``odd_environment``, for the tests of Gymnasium environments."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.types import EmulatorNeeds, TimeStep, VectorEnv
from jaxpg.core.user_modules import import_all
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig

VECTOR, PICTURE = EmulatorNeeds(kind="vector"), EmulatorNeeds(kind="picture")
FILE = str(Path(__file__).with_name("odd_environment.py"))


def register() -> None:
    """Imports the odd environments, as a user's imports are."""
    import_all([FILE])


def config_of(
    game: str = "Odd-v0", num_lanes: int = 3, workers: int = 0, limit: int = 27_000, **options: Any
) -> EnvConfig:
    given = {"size": 3, **options} if game == "Odd-v0" else options
    return EnvConfig(
        game=game,
        backend="gymnasium",
        num_lanes=num_lanes,
        workers=workers,
        options=given,
        max_episode_agent_steps=limit,
    )


def made(config: EnvConfig, needs: EmulatorNeeds = VECTOR) -> VectorEnv:
    return make_env(config, needs, config.num_lanes)


def played(env: VectorEnv, num_agent_steps: int, seed: int = 0) -> list[TimeStep]:
    """The first time step, and one for each of some random actions."""
    env.reset(seed + 7 * np.arange(env.num_lanes))
    actions = np.random.default_rng(seed).integers(env.spec.num_actions, size=(num_agent_steps, env.num_lanes))
    steps = [env.recv()]
    for row in actions:
        env.send(row)
        steps.append(env.recv())
    return steps
