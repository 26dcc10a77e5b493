"""What MkDocs does to each page besides its plugins (``hooks`` in mkdocs.yml): it says where a line may be broken."""

import re
from collections.abc import Callable
from typing import Any

CELL = re.compile(r"<td[ >].*?</td>", re.DOTALL)
CODE = re.compile(r"<code[ >].*?</code>", re.DOTALL)
TAG = re.compile(r"(<[^>]*>)")
FLAG = re.compile(r"(?<![\w-])--(?:[a-z][\w.-]{0,36}|(?=\s|$))")
DATE_OR_EXPONENT = re.compile(r"\b20\d\d-\d\d-\d\d\b|\b\d+(?:\.\d+)?e-\d+\b")
LONG_NAME = re.compile(r"[\w./=]{16,}")
NAME_JOINT = re.compile(r"(?<=[A-Za-z0-9][._/=])(?=[A-Za-z])(?!(?:csv|json|md|py|yaml)\b)|(?<=[a-z])(?=[A-Z])")
EMPTY = re.compile(
    r">field</span>(?:<[^>]*>)+\((?:<[^>]*>)+default_factory(?:<[^>]*>)+=(?:<[^>]*>)+dict(?:<[^>]*>)+\)<"
)
FLAG_JOINT = re.compile(r"(?<=\w[.-])")


def on_page_content(html: str, **_: Any) -> str:
    """Marks flags, dates and numbers with an exponent, so that a browser breaks none of them after a hyphen.

    A cell of a table may be narrower than a flag or a name. There they are broken where their parts meet.
    """
    html = EMPTY.sub(">{}<", html)  # the default of a setting, as Python and YAML write it
    html = CODE.sub(lambda code: _in_text(_flags, code[0]), html)
    html = CELL.sub(lambda cell: CODE.sub(lambda code: _in_text(_joints, code[0]), cell[0]), html)
    return _in_text(lambda text: DATE_OR_EXPONENT.sub(r'<span class="whole">\g<0></span>', text), html)


def _in_text(change: Callable[[str], str], html: str) -> str:
    """Changes the text between the tags."""
    return "".join(piece if piece.startswith("<") else change(piece) for piece in TAG.split(html))


def _flags(text: str) -> str:
    return FLAG.sub(r'<span class="flag">\g<0></span>', text)


def _joints(text: str) -> str:
    """Allows a line to end inside a flag, after a part of it, and inside a name that is long for a phone."""
    if FLAG.fullmatch(text):
        return '</span><wbr><span class="flag">'.join(part for part in FLAG_JOINT.split(text) if part)
    return LONG_NAME.sub(lambda name: NAME_JOINT.sub("<wbr>", name[0]), text)
