"""Imports EnvPool with its Atari games alone; its other suites follow as soon as someone asks for one of their tasks.

EnvPool's own import loads all of its suites and, for pictures of one of them, Matplotlib. That takes 0.7 to 1.0 s,
and Atari needs none of it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

ENTRY = "envpool.entry"
"""EnvPool's module that registers all suites. The package imports it first of all."""


class _Tasks(dict[str, Any]):
    """EnvPool's registry of tasks by name, which loads the other suites when a name is missing or all are asked for."""

    is_complete = False

    def complete(self) -> None:
        if not self.is_complete:
            self.is_complete = True  # first, because suites look whether their names are free
            import_module(ENTRY)

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name):
            self.complete()
        return super().__contains__(name)

    def __missing__(self, name: str) -> Any:
        if self.is_complete:
            raise KeyError(name)
        self.complete()
        return self[name]

    def keys(self) -> Any:
        self.complete()
        return super().keys()


def import_envpool() -> Any:
    """Returns the package. If the program has imported it already, it stays as it is."""
    if "envpool" not in sys.modules:
        sys.modules[ENTRY] = ModuleType(ENTRY)
        try:
            import_module("envpool.atari.registration")
        finally:
            del sys.modules[ENTRY]
        registry = import_module("envpool.registration").registry
        registry.specs = _Tasks(registry.specs)
    return import_module("envpool")


def all_tasks() -> dict[str, Any]:
    """What EnvPool's registry says of each task, with all suites loaded."""
    import_envpool()
    specs: dict[str, Any] = import_module("envpool.registration").registry.specs
    return {name: specs[name] for name in specs.keys()}  # noqa: SIM118  # keys() loads the other suites
