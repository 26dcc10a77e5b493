"""Searches for settings of a recipe: ``jaxpg.tune(...)`` in Python, ``python -m jaxpg.tune`` in a shell."""

import sys
from collections.abc import Sequence

from jaxpg.machine.command import run_command
from jaxpg.machine.prepared import CallableModule
from jaxpg.suite.tuning import command, tune

__all__ = ["command", "main", "tune"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
