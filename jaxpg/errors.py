"""Errors that a user can cause: one sentence, exit code 2, no traceback."""

import difflib
import itertools
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from importlib.metadata import version

from jaxpg import __version__
from jaxpg.machine.console import flush, open_missing, say
from jaxpg.machine.signals import Interrupted, end_at_once, signals_heard

MAX_SENTENCE = 2000
"""Characters of an error sentence; the middle of a longer one is left out."""


class UserError(Exception):
    """A mistake in what the user gave; its text is the one sentence that the user reads."""

    def __init__(self, sentence: str):
        super().__init__(_one_line(sentence))


def _one_line(sentence: str) -> str:
    """The sentence on one line of a length to be read, whatever a stranger's file has put into it.

    >>> _one_line("key" + chr(9)) == "key" + chr(92) + "t"
    True
    """
    if len(sentence) > MAX_SENTENCE:
        sentence = f"{sentence[: MAX_SENTENCE // 2]} ... {sentence[-MAX_SENTENCE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)


class FaultError(Exception):
    """An emulator or, where several processes save together, a disk failed; nobody's mistake. Its text is the sentence
    that the user reads, and what was played since the newest iteration or checkpoint is lost.
    """


def first_line(error: Exception) -> str:
    """What an error says at first, for a sentence; its kind where it says nothing.

    >>> first_line(RuntimeError())
    'RuntimeError'
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


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
    words = sys.argv[1:] if argv is None else argv
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
    sys.exit(code)


def versions() -> str:
    """The versions that what is computed depends on."""
    return f"jaxpg {__version__}, jax {version('jax')}, Python {platform.python_version()}"


CUTOFF = 0.6
"""Least similarity of a name that is suggested (``difflib``'s ratio)."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Ends an error sentence with the nearest valid name, or with all of them when they are few.

    >>> nearest("Pnog", ["Pong", "Breakout"])
    "; did you mean 'Pong'?"
    """
    by_folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=CUTOFF)
    if close:
        return f"; did you mean {by_folded[close[0]]!r}?"
    if 0 < len(by_folded) <= 12:
        return f"; valid names are {', '.join(sorted(by_folded.values()))}"
    return ""


def check_name(key: str, name: str, names: Iterable[str]) -> None:
    """Raises UserError with the nearest valid name when ``name``, the value of ``key``, is not one of ``names``."""
    names = list(names)
    if name not in names:
        raise UserError(f"{key}: unknown name {name!r}{nearest(name, names)}")
