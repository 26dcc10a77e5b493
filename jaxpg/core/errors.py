"""Errors that a user can cause: one sentence, exit code 2, no traceback."""

import difflib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MAX_SENTENCE = 2000
"""Most characters of an error sentence. A longer sentence loses its middle."""


class UserError(Exception):
    """A mistake in the user's input. The error's text is the one sentence that the user reads."""

    def __init__(self, sentence: str):
        if len(sentence) > MAX_SENTENCE:
            sentence = f"{sentence[: MAX_SENTENCE // 2]} ... {sentence[-MAX_SENTENCE // 2 :]}"
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    """The text on one line, with unprintable characters escaped.

    What is said may quote a file from a stranger, so it may contain anything, such as commands to the terminal.

    >>> printable("key" + chr(9)) == "key" + chr(92) + "t"
    True
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class FaultError(Exception):
    """A failure that is not the user's mistake.

    An emulator failed, or a disk failed while several processes saved together. The error's text is the sentence that
    the user reads. The agent steps since the newest iteration or checkpoint are lost.
    """


def first_line(error: Exception) -> str:
    """First line of an error's message, or the name of the error's type if the message is empty.

    A first line that ends with a colon says nothing without what follows it, which is joined to it. The number of an
    error of the system is left out, because its words follow.

    >>> first_line(RuntimeError())
    'RuntimeError'
    >>> first_line(ValueError("either:" + chr(10) + "  this, or" + chr(10) + "  that"))
    'either: this, or that'
    >>> first_line(OSError(28, "No space left on device"))
    'No space left on device'
    """
    message = str(error)
    if isinstance(error, OSError):
        message = message.removeprefix(f"[Errno {error.errno}] ")
    first = (message.splitlines() or [type(error).__name__])[0]
    return " ".join(message.split()) if first.rstrip().endswith(":") else first


TRACED = {
    "TracerBoolConversionError": "choose with jax.numpy.where or jax.lax.cond, not with if, while, and, or",
    "TracerArrayConversionError": "compute with jax.numpy, not with NumPy",
    "TracerIntegerConversionError": "index arrays of jax.numpy, not lists or NumPy's arrays",
    "ConcretizationTypeError": "keep arrays of jax.numpy, not numbers made with float() or int()",
}
"""What to do in place of what JAX cannot trace, by the name of JAX's error."""


def raised(error: Exception) -> str:
    """The type of an error in a user's code and its first line; for an error of JAX's tracing, what to write instead.

    >>> raised(ValueError("no such colour."))
    'ValueError: no such colour.'
    """
    kind = type(error).__name__
    words = f"{kind}: {first_line(error)}"
    if "assigned to static attribute" in words:  # of Flax, which goes on with five ways out
        return f"{words.partition('. ')[0]}; put layers into nnx.List([...]) or nnx.Dict(...)"
    return f"{words.rstrip('.')}; JAX traces this code, so {TRACED[kind]}" if kind in TRACED else words


YOUR_OWN = "one of your own is registered by a file or module in imports (--imports FILE)"
"""End of an error sentence about an unknown name that looks like none of the known ones."""
DID_YOU_MEAN = "; did you mean"
CUTOFF = 0.6
"""Lowest similarity (``difflib``'s ratio) at which a name is suggested."""
SHORTEST_PART = 4
"""Fewest letters of a part for which whole names are suggested."""


def nearest(name: str, names: Iterable[str]) -> str:
    """End of an error sentence: the nearest valid name, or all valid names if they are few. Never the name itself.

    A name that is a part of no more than three valid names is near to them.

    >>> nearest("Pnog", ["Pong", "Breakout"])
    "; did you mean 'Pong'?"
    >>> nearest("--budget", ["--run.budget-agent-steps", "--run.seed"])
    "; did you mean '--run.budget-agent-steps'?"
    >>> nearest("Pong", ["Pong"])
    ''
    """
    by_folded = {n.casefold(): n for n in names if n != name}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=CUTOFF)
    part = name.casefold().strip("-")
    wider = [n for n in by_folded if len(part) >= SHORTEST_PART and part in n]
    if close or 0 < len(wider) <= 3:
        return f"{DID_YOU_MEAN} {' or '.join(repr(by_folded[n]) for n in close or wider)}?"
    if 0 < len(by_folded) <= 12:
        return f"; valid names are {', '.join(sorted(by_folded.values()))}"
    return ""


def check_name(key: str, name: str, names: Iterable[str], otherwise: str = "") -> None:
    """Checks that ``name``, the value of the setting ``key``, is one of ``names``.

    Args:
      key: the setting.
      name: its value.
      names: the valid names.
      otherwise: what the sentence adds where no valid name is near.

    Raises:
      UserError: ``name`` is unknown. The sentence suggests the nearest valid name.
    """
    names = list(names)
    if name not in names:
        hint = nearest(name, names)
        more = f"; {otherwise}" if otherwise and not hint.startswith(DID_YOU_MEAN) else ""
        raise UserError(f"{key}: unknown name {name!r}{hint}{more}")


def no_run(folder: Path) -> str:
    """End of an error sentence about a folder that is no run folder: why, and which run was perhaps meant.

    Args:
      folder: where a run was looked for.
    """
    why = "it has no config.yaml" if os.path.lexists(folder) else "there is no such folder"
    for outer in folder.parents[:2]:
        if _is_run(outer):
            return f"{why}; did you mean {str(outer)!r}?"
    beside = {one.name: one for one in _entries(folder.parent) if one != folder and _is_run(one)}
    close = difflib.get_close_matches(folder.name, beside, n=1, cutoff=CUTOFF)
    inside = [str(one) for one in _entries(folder) if _is_run(one)]
    if inside or not close:
        return why + (f"; it holds runs, such as {inside[0]}" if inside else "")
    return f"{why}; did you mean {str(beside[close[0]])!r}?"


def _is_run(folder: Path) -> bool:
    return os.path.isfile(folder / "config.yaml")  # unlike Path.is_file, it never raises OSError


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in the order of the names. Empty where the folder cannot be read."""
    with suppress(OSError, ValueError):
        return sorted(folder.iterdir())
    return []
