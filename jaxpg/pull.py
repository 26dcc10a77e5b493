"""Fetches a run from the Hugging Face Hub: ``jaxpg.pull(name)`` in Python, ``python -m jaxpg.pull`` in a shell."""

import sys
from collections.abc import Sequence

from jaxpg.machine.command import run_command
from jaxpg.machine.prepared import CallableModule
from jaxpg.share.pulling import command, pull

__all__ = ["command", "main", "pull"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    run_command(command, argv)


sys.modules[__name__].__class__ = CallableModule

if __name__ == "__main__":
    main()
