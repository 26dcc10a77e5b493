"""Runs a command, from its arguments to its exit code."""

import itertools
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version

from jaxpg import __version__
from jaxpg.core.errors import FaultError, UserError, first_line
from jaxpg.machine.console import flush, open_missing, say, speaking
from jaxpg.machine.signals import Interrupted, end_at_once, signals_heard

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "DNN library initialization failed")
"""Words in XLA's errors that mean that no memory was left, or that another process has taken the GPU's."""


def run_command(
    command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None, *, hears_signals: bool = True
) -> None:
    """Runs a command and ends the process with the command's exit code.

    A mistake by the user prints one sentence on stderr and gives exit code 2. A failed emulator prints one sentence and
    gives exit code 1. A signal that ends the command gives 128 plus the signal's number, as in shells: 130 for Ctrl-C
    (see ``jaxpg.machine.signals``).

    Args:
      command: takes the arguments and returns the exit code.
      argv: the arguments. None stands for the arguments of the process.
      hears_signals: False if the command handles signals itself.
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
    except RuntimeError as error:  # of JAX, which this module does not import
        if not any(word in str(error) for word in OUT_OF_MEMORY):
            raise
        say(
            f"jaxpg: memory is used up: {first_line(error)}; use fewer lanes, shorter rollouts or smaller minibatches, "
            "and give processes that share a GPU their parts of it with XLA_CLIENT_MEM_FRACTION",
            error=True,
        )
        code = 1
    except KeyboardInterrupt as error:
        code = 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)
        say("jaxpg: interrupted", error=True)
        if signal.getsignal(signal.SIGINT) is end_at_once:  # a real command: libraries take seconds to end
            flush()
            os._exit(code)
    finally:
        flush()  # buffered words, such as the help text; the reader may be gone
    return code


def module_command(name: str) -> list[str]:
    """The beginning of a command line that runs a module of jaxpg in another process.

    ``python -m`` imports from the working folder before all else, where a stranger's files may lie. The other process
    does so only if this one does.
    """
    here = {"", os.getcwd()} & set(sys.path)
    return [sys.executable, *([] if here else ["-P"]), "-m", name]


def versions() -> str:
    """The versions on which the computed numbers depend: jaxpg, JAX and Python."""
    return f"jaxpg {__version__}, jax {version('jax')}, Python {platform.python_version()}"
