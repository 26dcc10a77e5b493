"""The words of pages, docstrings and messages: one word for one thing (docs/concepts/glossary.md), and sentences with a
subject.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "concepts" / "glossary.md"
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *sorted(ROOT.glob("docs/**/*.md"))]
CODE = sorted(path for folder in ("jaxpg", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))
RECIPES = sorted((ROOT / "jaxpg" / "recipes").rglob("*.yaml"))
NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"
ELSEWHERE = "## Words of other libraries\n"
"""The heading of the glossary's table of words that are not used here."""


def _pattern(words: str) -> str:
    """Finds the words in one, with a hyphen or a space between them, shortened, in the plural, and as an adverb."""
    words = words.replace("environment", "env(ironment)?").replace("ised", "i[sz]ed").replace(" ", "[ -]?")
    return rf"\b{re.sub('y$', '(y|ie)', words)}(s|ly)?\b"


def synonyms(glossary: str) -> dict[str, str]:
    """The patterns of the words that stand elsewhere for a word of the glossary, and that word."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|$", glossary.partition(ELSEWHERE)[2], re.MULTILINE)
    return {_pattern(words): here for here, elsewhere in rows for words in elsewhere.split(", ")}


SYNONYMS = synonyms(GLOSSARY.read_text(encoding="utf-8"))
AVOIDED = {
    r"\b(simply|obviously|easily|just|very|clearly|of course)\b": "nothing",
    r"\b(powerful|seamless(ly)?|blazing(ly)?|cutting-edge|state-of-the-art)\b": "a figure",
    r"\b(differences? from )?the first design\b": "what holds now",
    r"\b(utili[sz]e[sd]?|leverag(e|es|ed|ing))\b": "use",
    r"\b(behavior|color|neighbor|standardiz)": "British spelling, as elsewhere",
}
"""What else is not written, and what is written instead."""


def _prose(text: str) -> str:
    """The text without code, links' targets, quotations and HTML comments, with as many lines."""

    def blank(match: re.Match) -> str:
        return "\n" * match[0].count("\n")

    text = re.sub(r"```.*?```|<!--.*?-->|`[^`]*`|\"[^\"\n]*\"", blank, text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def mistakes(text: str, first_line: int = 1) -> list[str]:
    """The avoided words of a text, each with its line and what to write."""
    prose = _prose(text.partition(ELSEWHERE)[0])
    return [
        f"{prose.count(chr(10), 0, match.start()) + first_line}: {match[0]!r}; write {instead}"
        for pattern, instead in {**SYNONYMS, **AVOIDED}.items()
        for match in re.finditer(pattern, prose, re.IGNORECASE)
    ]


def _said(code: str) -> Iterator[tuple[int, str]]:
    """Docstrings and messages of Python code, each with its first line: all strings of several words.

    Names of classes and of arguments that a docstring describes are left out.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, re.sub(r"^ *\w+:|\b[A-Z][a-z]+[A-Z]\w*", "", node.value, flags=re.MULTILINE)


@pytest.mark.parametrize("path", [*PAGES, *RECIPES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_words_are_the_glossary_s(path: Path) -> None:
    assert mistakes(path.read_text(encoding="utf-8")) == []


def test_docstrings_and_messages_have_the_glossary_s_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{mistake}"
        for path in CODE
        for line, text in _said(path.read_text(encoding="utf-8"))
        for mistake in mistakes(text, line)
    ]
    assert found == []


def test_the_notebook_has_the_glossary_s_words() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [mistake for cell in cells for mistake in mistakes("".join(cell["source"]))] == []


def test_every_word_to_write_is_in_the_glossary() -> None:
    explained = GLOSSARY.read_text(encoding="utf-8").partition(ELSEWHERE)[0]
    rows = [line.split("|")[1] for line in explained.splitlines() if line.startswith("| **")]
    words = {word for row in rows for word in re.findall(r"\*\*(.+?)\*\*", row)}
    assert len(SYNONYMS) > 25
    assert set(SYNONYMS.values()) <= words
    assert {"pool", "frame", "round", "generation", "segment"} <= words, "words without a synonym to look for"


def test_a_word_of_another_library_is_found_in_every_form() -> None:
    for words in ("timesteps", "Time-step", "env steps", "sub-env", "vectorized envs", "trajectories", "bit-exactly"):
        assert mistakes(f"A page with {words}.") != [], words
    for words in ("an agent step", "a rollout", "gradient steps", "an update", "bits", "a run's folder", "rewards"):
        assert mistakes(f"A page with {words}.") == [], words
    assert list(synonyms(f"| **no** | yes |\n{ELSEWHERE}| **a b** | c d, easy |\n").values()) == ["a b", "a b"]


def test_what_is_avoided_is_found() -> None:
    assert mistakes("One\nhyperparameter `timestep`.\n\n```\njust\n```\nJust so.") == [
        "2: 'hyperparameter'; write setting",
        "7: 'Just'; write nothing",
    ]
    code = 'def f(snapshot):\n    """A TimeStep.\n\n    snapshot: the queue.\n    """\n    say(f"{x} bitwise equal")\n'
    assert [mistake for line, text in _said(code) for mistake in mistakes(text, line)] == [
        "6: 'bitwise'; write to the bit"
    ]


def test_no_docstring_begins_with_of_or_ends_in_the_air() -> None:
    bad = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if re.match(r"(Of|What it|All of it)\b", text):
                    bad.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert bad == []
