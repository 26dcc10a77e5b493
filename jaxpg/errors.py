"""Errors that a user can cause: one sentence, exit code 2, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; its text is the one sentence that the user reads."""


class EmulatorFaultError(Exception):
    """An emulator failed; nobody's mistake, and what was played since the newest iteration is lost."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Ends an error sentence with the nearest valid name, or with all of them when they are few.

    >>> nearest("Pnog", ["Pong", "Breakout"])
    "; did you mean 'Pong'?"
    """
    by_folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
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
