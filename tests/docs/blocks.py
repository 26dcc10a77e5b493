"""The fenced blocks of a page, and how they are run: as a reader would, from top to bottom, in one folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (DOCS / "get-started.md", DOCS / "recipes.md", *DOCS.glob("guides/*.md"), *DOCS.glob("concepts/*.md"))
)
"""Pages whose commands and Python are run as they stand."""
SHELL = ("shell", "sh", "bash")
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n)?"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[^\"\n]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block."""

    line: int
    language: str
    title: str
    """Name of the file that the reader is told to write, or empty."""
    text: str
    reason: str
    """Why the block is not run; empty for a block that is."""

    @property
    def is_run(self) -> bool:
        """Whether the block is run, and not a file, a recipe or what cannot be run here."""
        return not self.title and not self.reason and self.language in (*SHELL, "python")

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line without its comment."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [bare for line in lines if (bare := re.sub(r"(^|\s)# .*", "", line).strip())]


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks of a page.

    Raises:
      AssertionError: a fence has a form that is not understood, so that its block would be passed over.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["title"] or "",
            match["text"],
            match["reason"] or "",
        )
        for match in FENCE.finditer(text)
    ]
    assert text.count("```") == 2 * len(found), f"{page}: a fence is indented or has words that blocks.py does not know"
    assert text.count("<!-- not run") == sum(bool(block.reason) for block in found), f"{page}: a reason stands apart"
    return found


def run_page(page: str, folder: Path) -> None:
    """Runs a page: writes its files, runs its commands and its Python, each from the folder.

    Raises:
      AssertionError: a command ended with another exit code than 0.
    """
    shutil.copytree(DOCS / "examples", folder / "docs" / "examples")
    programs = folder / ".programs"
    programs.mkdir()
    for name, words in {"jaxpg": '-m jaxpg "$@"', "python": '"$@"'}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([".", str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # most of a page's time is compilation
    }
    for block in blocks_of(page):
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.is_run:
            words = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
            done = subprocess.run(
                [*words, block.text],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=900,
                check=False,
            )
            assert done.returncode == 0, f"{page}:{block.line}: exit code {done.returncode}\n{done.stdout[-3000:]}"
