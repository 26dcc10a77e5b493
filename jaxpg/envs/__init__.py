"""Environments of all backends behind one small protocol, ``jaxpg.core.types.VectorEnv``."""

from collections.abc import Callable
from functools import partial

from jaxpg.core.errors import UserError
from jaxpg.core.registry import Registry
from jaxpg.core.types import CompilableEnv, EmulatorNeeds, InJax, JaxEnvironment, VectorEnv
from jaxpg.core.user_modules import is_jaxpgs, own_code
from jaxpg.envs import envpool, gymnax
from jaxpg.envs.ale import Ale
from jaxpg.envs.ale_ram import AleRam
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.guarded import Guarded
from jaxpg.envs.jax_lanes import fitting_observation, in_jax
from jaxpg.envs.probes import Probe


def _ale(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> VectorEnv:
    return AleRam(config, num_lanes) if needs.kind == "ram" else Ale(config, needs, num_lanes)


def _gymnasium(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int, *, draws: bool = False) -> VectorEnv:
    from jaxpg.envs.gymnasium import Gymnasium  # imported here, because other backends do not need Gymnasium

    return Gymnasium(config, needs, num_lanes, draws=draws)


def _gymnasium_kind(config: EnvConfig) -> str:
    from jaxpg.envs.gymnasium import kind

    return kind(config)


def _own_kind(make: Callable[[EnvConfig], JaxEnvironment], config: EnvConfig) -> str:
    with own_code(f"env.backend: {config.backend!r}", make, "(config)"):
        return fitting_observation(config, make(config))


BACKENDS: Registry[Callable[[EnvConfig, EmulatorNeeds, int], VectorEnv]] = Registry(
    "env.backend",
    {
        "envpool": envpool.EnvPool,
        "ale": _ale,
        "gymnasium": _gymnasium,
        "probe": Probe,
        "gymnax": in_jax(gymnax.gymnax),
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
      UserError: ``name`` is no text, or another backend already has this name.
    """
    register = register_environment(name)

    def add(make: Callable[[EnvConfig], JaxEnvironment]) -> Callable[[EnvConfig], JaxEnvironment]:
        register(in_jax(make))
        _KINDS[name] = partial(_own_kind, make)
        return make

    return add


ATARI_BACKENDS = ("envpool", "ale")
_KINDS: dict[str, Callable[[EnvConfig], str]] = {
    "envpool": lambda config: envpool.kind(config.game),
    "ale": lambda config: "pixels",
    "gymnasium": _gymnasium_kind,
    "gymnax": lambda config: gymnax.kind(config.game),
}
"""What an environment of a backend is meant to show a policy: pixels (of an Atari game), vector or picture."""
WITHOUT_OPTIONS = (*ATARI_BACKENDS, "probe", "gymnax")
"""Backends that ignore ``env.options`` and ``env.workers``."""


def kind_of(config: EnvConfig) -> str:
    """What the environment is meant to show a policy: pixels (of an Atari game), vector, picture, or "" if unknown.

    Raises:
      UserError: the backend has no such environment.
    """
    return _KINDS[config.backend](config) if config.backend in _KINDS else ""


def make_env(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> VectorEnv:
    """Makes one environment with ``num_lanes`` lanes of ``config.game``.

    Raises:
      UserError: the backend is unknown, cannot do what the settings or the observation ask for, or is the user's own
        and fails.
    """
    if config.backend in WITHOUT_OPTIONS and (config.options or config.workers):
        key = "options" if config.options else "workers"
        raise UserError(
            f"env.{key}: is for --env.backend gymnasium, and {config.backend} has no use for it; leave it out"
        )
    make, what = BACKENDS[config.backend], f"env.backend: {config.backend!r}"
    is_in_jax = hasattr(make, "__wrapped__")  # a user's function that makes a JaxEnvironment
    with own_code(what, make, "(config)" if is_in_jax else "__init__(self, config, needs, num_lanes)"):
        env = make(config, needs, num_lanes)
    if is_jaxpgs(make) or isinstance(env, CompilableEnv | InJax):  # compiled code cannot be guarded
        return env
    return Guarded(env, what, num_lanes)


def make_display(config: EnvConfig, needs: EmulatorNeeds) -> VectorEnv:
    """Makes an environment of one lane to be looked at: a ``DrawingEnv`` if the backend can draw.

    Raises:
      UserError: as for ``make_env``.
    """
    return _gymnasium(config, needs, 1, draws=True) if config.backend == "gymnasium" else make_env(config, needs, 1)
