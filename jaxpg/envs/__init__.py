"""Environments of all backends behind one small protocol, ``jaxpg.core.types.VectorEnv``."""

from collections.abc import Callable

from jaxpg.core.registry import Registry
from jaxpg.core.types import EmulatorNeeds, JaxEnvironment, VectorEnv
from jaxpg.envs.ale import Ale
from jaxpg.envs.ale_ram import AleRam
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool import EnvPool
from jaxpg.envs.gymnax import gymnax
from jaxpg.envs.jax_lanes import in_jax
from jaxpg.envs.probes import Probe


def _ale(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> VectorEnv:
    return AleRam(config, num_lanes) if needs.kind == "ram" else Ale(config, needs, num_lanes)


BACKENDS: Registry[Callable[[EnvConfig, EmulatorNeeds, int], VectorEnv]] = Registry(
    "env.backend",
    {
        "envpool": EnvPool,
        "ale": _ale,
        "probe": Probe,
        "gymnax": in_jax(gymnax),
    },
)
"""Functions that make an environment, by the name of the backend."""
register_environment = BACKENDS.register
"""Decorator ``register_environment(name)`` for ``(EnvConfig, EmulatorNeeds, num_lanes) -> VectorEnv``."""


def register_jax_environment(
    name: str,
) -> Callable[[Callable[[EnvConfig], JaxEnvironment]], Callable[[EnvConfig], JaxEnvironment]]:
    """Decorator for a function ``EnvConfig -> JaxEnvironment``: ``env.backend`` can then be ``name``.

    Raises:
      UserError: another backend already has this name.
    """

    def add(make: Callable[[EnvConfig], JaxEnvironment]) -> Callable[[EnvConfig], JaxEnvironment]:
        register_environment(name)(in_jax(make))
        return make

    return add


ATARI_BACKENDS = ("envpool", "ale")


def make_env(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> VectorEnv:
    """Makes one environment with ``num_lanes`` lanes of ``config.game``.

    Raises:
      UserError: the backend is unknown or cannot do what the settings or the observation ask for.
    """
    return BACKENDS[config.backend](config, needs, num_lanes)
