"""``jaxpg`` and ``python -m jaxpg``: runs the command that the first argument names, or lists the commands."""

import importlib
import sys
from collections.abc import Sequence

from jaxpg.core.errors import UserError, nearest
from jaxpg.machine.command import run_command
from jaxpg.machine.console import say

COMMANDS = {
    "train": "trains a policy and keeps the run in a folder; without arguments, REINFORCE plays Pong",
    "evaluate": "plays whole games with a run's policy and says how good it is",
    "record": "makes videos of games that a run's policy plays",
    "report": "makes one page about one or more runs, finished or not",
    "export": "writes a run's policy as one function for programs without jaxpg: StableHLO or ONNX",
    "push": "puts a run on the Hugging Face Hub, with a card",
    "pull": "fetches a run from the Hugging Face Hub",
    "tune": "searches for settings of a recipe with several seeds for each choice",
    "suite": "trains recipes on several games with several seeds, and compares them",
    "launch": "trains one run with several processes on this machine",
}


def choose(argv: Sequence[str]) -> str | None:
    """The command that the first argument names, or None if the user asks for the list of commands.

    Raises:
      UserError: there is no such command.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        return None
    if argv[0] not in COMMANDS:
        raise UserError(f"there is no command {argv[0]!r}{nearest(argv[0], COMMANDS)}")
    return argv[0]


def list_commands(argv: Sequence[str]) -> int:
    """Lists the commands and returns the exit code.

    Raises:
      UserError: the arguments name a command that does not exist.
    """
    choose(argv)
    say("jaxpg COMMAND ... or python -m jaxpg COMMAND ..., where COMMAND is one of")
    for name, purpose in COMMANDS.items():
        say(f"  {name:10}{purpose}")
    say("COMMAND --help lists the flags; --version prints the versions. python -m jaxpg.COMMAND is the same.")
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] not in COMMANDS:
        run_command(list_commands, words, hears_signals=False)
    importlib.import_module(f"jaxpg.{words[0]}").main(words[1:])


if __name__ == "__main__":
    main()
