"""Puts a run on the Hugging Face Hub: ``jaxpg.push(run, to)`` in Python, ``python -m jaxpg.push`` in a shell."""

import sys
from collections.abc import Sequence

from jaxpg.machine.command import run_command
from jaxpg.machine.prepared import CallableModule
from jaxpg.share.pushing import command, push

__all__ = ["command", "main", "push"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
