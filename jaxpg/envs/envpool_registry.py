"""EnvPool's registry of environments, from which jaxpg imports only the suites that it needs.

``import envpool`` imports every suite. That takes 0.7 s of the processor and 100 MB, most of it for Matplotlib, Pgx and
MuJoCo, which neither Atari nor classic control needs. So the dear suites wait until somebody asks for them.
"""

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from jaxpg.core.stand_in import stand_in

ENTRY = "envpool.entry"
"""EnvPool's module that imports all suites. The package imports it first of all."""
REGISTRATION = "envpool.registration"
ATARI_GAMES = "envpool.atari.registration"
LIGHT_SUITES = ("classic_control", "box2d", "minigrid", "toy_text", "procgen")
"""Suites besides Atari that are imported in milliseconds."""


class _Module(ModuleType):
    """A module of EnvPool that imports the other suites before it gives anything that it offers."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            _import(ENTRY)
        return ModuleType.__getattribute__(self, name)


def _import(name: str) -> ModuleType:
    """Imports a module of EnvPool. What that module itself asks EnvPool for imports no other suites."""
    offering = [sys.modules["envpool"], sys.modules[REGISTRATION]]
    for module in offering:
        module.__class__ = ModuleType
    try:
        return import_module(name)
    finally:
        for module in offering:
            module.__class__ = ModuleType if ENTRY in sys.modules else _Module


def registry() -> Any:
    """EnvPool's registry with at least its Atari games. Programs that use EnvPool themselves see all suites."""
    if "envpool" not in sys.modules:
        with stand_in(ENTRY, ModuleType(ENTRY)):
            import_module("envpool")
        _import(ATARI_GAMES)
    return vars(sys.modules[REGISTRATION])["registry"]


def atari_rom_ids() -> list[str]:
    """The names of EnvPool's Atari games as they are written in ROM files."""
    registry()
    return list(_import(ATARI_GAMES).atari_game_list)


@cache
def package_of(task_id: str) -> str | None:
    """The package of EnvPool that has an environment, or None. Imports one suite after another until one has it."""
    specs = registry().specs
    for name in (*(f"envpool.{suite}.registration" for suite in LIGHT_SUITES), ENTRY):
        if task_id in specs:
            break
        _import(name)
    return specs[task_id][0] if task_id in specs else None


def packages() -> dict[str, str]:
    """The package of each environment, with all suites imported."""
    specs = registry().specs
    _import(ENTRY)
    return {task_id: spec[0] for task_id, spec in specs.items()}
