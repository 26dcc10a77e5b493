"""What MkDocs does to each page besides its plugins (``hooks`` in mkdocs.yml): line breaks and links."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

CELL = re.compile(r"<td[ >].*?</td>", re.DOTALL)
CODE = re.compile(r"<code[ >].*?</code>", re.DOTALL)
TAG = re.compile(r"(<[^>]*>)")
FLAG = re.compile(r"(?<![\w-])--(?:[a-z][\w.-]{0,40}(?![\w.-])|(?=\s|$))")
ARROW = re.compile(r"-&gt;")
TIMES = re.compile(r"(?<=\d) x (?=\d)")
SPREAD = re.compile(r" \+- (?=\d)")
WORDS = 40  # letters of a cell that is a sentence rather than a number or a name
DEFAULT = re.compile(r"(default:\s*<code>[^\n]*</code>)\s+\)")
PAGE_OR_LINK = re.compile(r"<(code|a)[ >].*?</\1>|\bdocs/([a-z/-]+)\.md\b", re.DOTALL)
DATE_OR_EXPONENT = re.compile(r"\b20\d\d-\d\d-\d\d\b|\b\d+(?:\.\d+)?e-\d+\b")
LONG_NAME = re.compile(r"[\w./=(\"]{12,}")
NAME_JOINT = re.compile(r"(?<=[A-Za-z0-9][._/=(])(?=[A-Za-z\"])(?!(?:csv|json|md|py|yaml)\b)|(?<=[a-z])(?=[A-Z])")
EMPTY = re.compile(
    r">field</span>(?:<[^>]*>)+\((?:<[^>]*>)+default_factory(?:<[^>]*>)+=(?:<[^>]*>)+dict(?:<[^>]*>)+\)<"
)
FLAG_JOINT = re.compile(r"(?<=\w[.-])")


def on_page_content(html: str, page: Any = None, **_: Any) -> str:
    """Marks flags, arrows, dates and numbers with an exponent, so that a browser breaks none of them after a hyphen.

    A cell of a table may be narrower than a flag or a name. There they are broken where their parts meet. The path of a
    page, as docstrings and the changelog have it, becomes a link.
    """
    html = EMPTY.sub(">{}<", html)  # the default of a setting, as Python and YAML write it
    html = DEFAULT.sub(r"\1)", html)
    html = CODE.sub(lambda code: _in_text(_flags, code[0]), html)
    html = CELL.sub(lambda cell: _cell(cell[0]), html)
    html = PAGE_OR_LINK.sub(lambda found: _linked(found, page.url if page else ""), html)
    return _in_text(lambda text: DATE_OR_EXPONENT.sub(r'<span class="whole">\g<0></span>', text), html)


def _in_text(change: Callable[[str], str], html: str) -> str:
    """Changes the text between the tags."""
    return "".join(piece if piece.startswith("<") else change(piece) for piece in TAG.split(html))


def _flags(text: str) -> str:
    return ARROW.sub(r'<span class="whole">\g<0></span>', FLAG.sub(r'<span class="flag">\g<0></span>', text))


def _cell(html: str) -> str:
    """Breaks names where their parts meet, keeps sizes and spreads whole, and marks a cell of many words."""
    html = CODE.sub(lambda code: _in_text(_joints, code[0]), html)
    html = _in_text(lambda text: SPREAD.sub(" \N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}", text), html)
    html = _in_text(lambda text: TIMES.sub("\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}", text), html)
    return html.replace("<td", '<td class="words"', 1) if len(TAG.sub("", html)) > WORDS else html


def _linked(found: re.Match, url: str) -> str:
    """Links the path of a page; leaves code, links and paths of nothing as they are."""
    if not found[2] or not (Path(__file__).parent / f"{found[2]}.md").is_file():
        return found[0]
    return f'<a href="{"../" * url.count("/")}{found[2]}/">{found[0]}</a>'


def _joints(text: str) -> str:
    """Allows a line to end inside a flag, after a part of it, and inside a name that is long for a phone."""
    if FLAG.fullmatch(text):
        return '</span><wbr><span class="flag">'.join(part for part in FLAG_JOINT.split(text) if part)
    return LONG_NAME.sub(lambda name: NAME_JOINT.sub("<wbr>", name[0]), text)
