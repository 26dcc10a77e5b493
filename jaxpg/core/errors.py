"""Errors that a user can cause: one sentence, exit code 2, no traceback."""

import difflib
from collections.abc import Iterable

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

    A first line that ends with a colon says nothing without what follows it, which is joined to it.

    >>> first_line(RuntimeError())
    'RuntimeError'
    >>> first_line(ValueError("either:" + chr(10) + "  this, or" + chr(10) + "  that"))
    'either: this, or that'
    """
    message = str(error)
    first = (message.splitlines() or [type(error).__name__])[0]
    return " ".join(message.split()) if first.rstrip().endswith(":") else first


YOUR_OWN = "one of your own is registered by a file or module in imports (--imports FILE)"
"""End of an error sentence about an unknown name that looks like none of the known ones."""
DID_YOU_MEAN = "; did you mean"
CUTOFF = 0.6
"""Lowest similarity (``difflib``'s ratio) at which a name is suggested."""


def nearest(name: str, names: Iterable[str]) -> str:
    """End of an error sentence: the nearest valid name, or all valid names if they are few. Never the name itself.

    >>> nearest("Pnog", ["Pong", "Breakout"])
    "; did you mean 'Pong'?"
    >>> nearest("Pong", ["Pong"])
    ''
    """
    by_folded = {n.casefold(): n for n in names if n != name}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=CUTOFF)
    if close:
        return f"{DID_YOU_MEAN} {by_folded[close[0]]!r}?"
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
