"""A command from its arguments to its exit code."""

import itertools
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version

from jaxpg import __version__
from jaxpg.core.errors import FaultError, UserError
from jaxpg.machine.console import flush, open_missing, say, speaking
from jaxpg.machine.signals import Interrupted, end_at_once, signals_heard


def run_command(
    command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None, *, hears_signals: bool = True
) -> None:
    """Runs a command and ends the process. A mistake of the user is one sentence on stderr and exit code 2.

    An emulator that failed is one sentence and 1. A signal that ends the command is 128 plus its number, 130 for
    Ctrl-C, as shells have it; see ``jaxpg.machine.signals``.

    Args:
      command: takes the arguments and returns the exit code.
      argv: the arguments; None for those of the process.
      hears_signals: False for a command that handles signals by itself.
    """
    open_missing()
    with speaking():
        code = _exit_code(command, sys.argv[1:] if argv is None else argv, hears_signals=hears_signals)
    sys.exit(code)


def _exit_code(command: Callable[[Sequence[str]], int], words: Sequence[str], *, hears_signals: bool) -> int:
    code = 0
    try:
        if "--version" in itertools.takewhile(lambda word: word != "--", words):
            say(versions())
        else:
            with signals_heard(ends_process=True) if hears_signals else nullcontext():
                code = command(words)
    except UserError as error:
        say(f"jaxpg: {error}", error=True)
        code = 2
    except FaultError as error:
        say(f"jaxpg: {error}", error=True)
        code = 1
    except KeyboardInterrupt as error:
        code = 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)
        say("jaxpg: interrupted", error=True)
        if signal.getsignal(signal.SIGINT) is end_at_once:  # a process of its own, whose libraries take seconds to end
            flush()
            os._exit(code)
    finally:
        flush()  # what is left, such as the help's, for a reader that may be gone
    return code


def versions() -> str:
    """The versions that what is computed depends on."""
    return f"jaxpg {__version__}, jax {version('jax')}, Python {platform.python_version()}"
