"""Errors that a user can cause: one sentence, exit code 2, no traceback."""

import difflib
from collections.abc import Iterable

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
