"""The words of WORDS: one word for one thing (docs/concepts/glossary.md), and sentences with a subject."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name != "lab"),
]
AVOIDED = {
    r"\btime ?-?steps?\b": "agent step, or frame",
    r"\bhyper-?parameters?\b": "setting",
    r"\btrajector(y|ies)\b": "rollout, or episode",
    r"\bindividuals?\b": "member, or candidate",
    r"\b(sub)?environment slots?\b(?! that)": "lane",
    r"\broll-outs?\b": "rollout",
    r"\bcheck-points?\b": "checkpoint",
    r"\bsnapshots?\b": "checkpoint",
    r"\b(simply|obviously|easily|just|very|clearly|of course)\b": "nothing",
    r"\b(powerful|seamless(ly)?|blazing(ly)?|cutting-edge|state-of-the-art)\b": "a figure",
    r"\bbit-(exact|identical)(ly)?\b": "to the bit",
    r"\bdifferences? from the first design\b": "what holds now",
    r"\bthe first design\b": "what holds now",
    r"\b(utili[sz]e[sd]?|leverag(e|es|ed|ing))\b": "use",
    r"\b(behavior|color|neighbor|standardiz)": "British spelling, as elsewhere",
}
"""What is not written, and what is written instead."""


def _prose(text: str) -> str:
    """The text without code, links' targets and HTML comments, with as many lines."""

    def blank(match: re.Match) -> str:
        return "\n" * match[0].count("\n")

    text = re.sub(r"```.*?```|<!--.*?-->|`[^`]*`", blank, text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def mistakes(text: str) -> list[str]:
    """The avoided words of a text, each with its line and what to write."""
    prose = _prose(text)
    return [
        f"{prose.count(chr(10), 0, match.start()) + 1}: {match[0]!r}; write {instead}"
        for pattern, instead in AVOIDED.items()
        for match in re.finditer(pattern, prose, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_words_are_the_glossary_s(path: Path) -> None:
    assert mistakes(path.read_text(encoding="utf-8")) == []


def test_what_is_avoided_is_found() -> None:
    assert mistakes("One\nhyperparameter `timestep`.\n\n```\njust\n```\nJust so.") == [
        "2: 'hyperparameter'; write setting",
        "7: 'Just'; write nothing",
    ]


def test_no_docstring_begins_with_of_or_ends_in_the_air() -> None:
    bad = []
    for path in sorted((ROOT / "jaxpg").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if re.match(r"(Of|What it|All of it)\b", text):
                    bad.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert bad == []
