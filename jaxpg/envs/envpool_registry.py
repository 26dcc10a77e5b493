"""EnvPool's registry of environments, from which jaxpg imports only the suites that it needs.

``import envpool`` imports every suite. That takes 0.7 s of the processor and 100 MB, most of it for Matplotlib, Pgx and
MuJoCo, which neither Atari nor classic control needs. So the dear suites wait until somebody asks for them.
"""

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

ENTRY = "envpool.entry"
"""EnvPool's module that imports all suites. The package imports it first of all."""
LIGHT_SUITES = ("atari", "box2d", "classic_control", "minigrid", "procgen", "toy_text")
"""Suites that are imported in milliseconds."""


class _Module(ModuleType):
    """A module of EnvPool that imports the other suites before it gives anything that it offers."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            self.__class__ = ModuleType  # type: ignore[assignment]  # from now on the module is what it would be
            import_module(ENTRY)
        return ModuleType.__getattribute__(self, name)


@cache
def registry() -> Any:
    """EnvPool's registry with at least the light suites. Programs that use EnvPool themselves see all suites."""
    if "envpool" in sys.modules:
        return import_module("envpool.registration").registry
    sys.modules[ENTRY] = ModuleType(ENTRY)
    try:
        package = import_module("envpool")
    finally:
        del sys.modules[ENTRY]
    registration = import_module("envpool.registration")
    found = registration.registry
    for suite in LIGHT_SUITES:
        import_module(f"envpool.{suite}.registration")
    package.__class__ = registration.__class__ = _Module
    return found


def complete_registry() -> Any:
    """EnvPool's registry with all suites."""
    found = registry()
    import_module(ENTRY)
    return found


def atari_rom_ids() -> list[str]:
    """The names of EnvPool's Atari games as they are written in ROM files."""
    registry()
    return list(import_module("envpool.atari.registration").atari_game_list)
