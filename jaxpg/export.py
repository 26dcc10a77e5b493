"""Exports a policy as one function: ``jaxpg.export(run)`` in Python, ``python -m jaxpg.export`` in a shell."""

import sys
from collections.abc import Sequence

from jaxpg.machine.command import run_command
from jaxpg.machine.prepared import CallableModule
from jaxpg.share.exporting import command, export

__all__ = ["command", "export", "main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
