"""Environments of all backends behind one small protocol, ``jaxpg.core.types.VectorEnv``."""

from collections.abc import Callable

from jaxpg.core.errors import UserError
from jaxpg.core.registry import Registry
from jaxpg.core.types import EmulatorNeeds, VectorEnv
from jaxpg.envs.ale import Ale
from jaxpg.envs.ale_ram import AleRam
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool import EnvPool
from jaxpg.envs.probes import Probe


def _ale(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> VectorEnv:
    return AleRam(config, num_lanes) if needs.kind == "ram" else Ale(config, needs, num_lanes)


def _gymnasium(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int, *, draws: bool = False) -> VectorEnv:
    from jaxpg.envs.gymnasium import Gymnasium  # imported here, because other backends do not need Gymnasium

    return Gymnasium(config, needs, num_lanes, draws=draws)


BACKENDS: Registry[Callable[[EnvConfig, EmulatorNeeds, int], VectorEnv]] = Registry(
    "env.backend",
    {
        "envpool": EnvPool,
        "ale": _ale,
        "gymnasium": _gymnasium,
        "probe": Probe,
    },
)
"""Functions that make an environment, by the name of the backend."""
register_environment = BACKENDS.register
"""Decorator ``register_environment(name)`` for ``(EnvConfig, EmulatorNeeds, num_lanes) -> VectorEnv``."""
ATARI_BACKENDS = ("envpool", "ale")
WITHOUT_OPTIONS = (*ATARI_BACKENDS, "probe")
"""Backends that ignore ``env.options`` and ``env.workers``."""


def make_env(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> VectorEnv:
    """Makes one environment with ``num_lanes`` lanes of ``config.game``.

    Raises:
      UserError: the backend is unknown or cannot do what the settings or the observation ask for.
    """
    if config.backend in WITHOUT_OPTIONS and (config.options or config.workers):
        key = "options" if config.options else "workers"
        raise UserError(
            f"env.{key}: is for --env.backend gymnasium, and {config.backend} has no use for it; leave it out"
        )
    return BACKENDS[config.backend](config, needs, num_lanes)


def make_display(config: EnvConfig, needs: EmulatorNeeds) -> VectorEnv:
    """Makes an environment of one lane to be looked at: a ``DrawingEnv`` if the backend can draw.

    Raises:
      UserError: as for ``make_env``.
    """
    return _gymnasium(config, needs, 1, draws=True) if config.backend == "gymnasium" else make_env(config, needs, 1)
