"""What the documentation says is so: its commands run, its links lead somewhere, its words are the glossary's."""

import ast
import importlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.parse import urlparse

import pytest
from ruamel.yaml import YAML

import jaxpg
from jaxpg.__main__ import COMMANDS
from jaxpg.cli import TrainArguments, parse, parse_train
from jaxpg.config import packaged_recipes
from jaxpg.core.errors import UserError
from tests.docs.blocks import DOCS, PAGES, ROOT, SHELL, Block, blocks_of, run_page

PLACES = {"tune": "suite.tuning", "export": "share.exporting", "push": "share.pushing", "pull": "share.pulling"}
"""The module with a command's arguments, where it is not the command's own."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OTHERS = {"python3", ".", "pip", "tensorboard", "mkdocs", "docker", "kubectl", "sbatch", "cat", "cd"}
"""Programs besides jaxpg's commands and the benchmarks that a block may call."""
MARKDOWN = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


WALKED = "docs/get-started.md"
"""Run from top to bottom by tests/viewing/test_page.py, which looks at the page that its last command makes."""
RUN = [page for page in PAGES if page != WALKED and any(block.is_run for block in blocks_of(page))]


def test_most_pages_have_something_to_run() -> None:
    assert len(RUN) >= 20
    assert {f"docs/guides/{name}.md" for name in ("policy", "environments", "observation", "learner")} <= set(RUN)


@pytest.mark.long
@pytest.mark.parametrize("page", RUN)
def test_every_command_and_python_block_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


def _parses(command: str) -> None:
    """Reads a command of a block that is not run, so that a flag or a file that is gone is noticed."""
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    words = [word.replace(".venv/bin/", "") for word in words]
    if words[:2] == ["python", "-m"] and words[2].count(".") > 1:
        assert importlib.util.find_spec(words[2]), command
        return
    if words[:2] == ["python", "-m"] and words[2].startswith("jaxpg"):
        words = ["jaxpg", *words[2].split(".")[1:], *words[3:]]
    if words[0] == "python":
        assert (ROOT / words[1]).is_file(), command
    elif words[0] == "jaxpg":
        _parses_as(words[1], words[2:])
    else:
        assert words[0] in OTHERS, f"{command}: say what this program is in OTHERS, or mark the block as text"
    for extra in re.findall(r"\[([\w,-]+)\]", command) if words[0] == "pip" else []:
        assert set(extra.split(",")) <= set(EXTRAS), command


def _parses_as(name: str, words: list[str]) -> None:
    assert name in COMMANDS
    if name == "train":
        given = [word for word in words if word not in ("--trust-imports",)]
        if "--imports" in given:  # a file of the reader's own, and what it registers
            parse("train", given, TrainArguments(), is_last=False)
        elif "--resume" in given:
            parse("train", given, TrainArguments())
        else:
            parse_train([word.replace("configs/", f"{ROOT}/configs/") for word in given])
        return
    module = importlib.import_module(f"jaxpg.{PLACES.get(name, name)}")
    if name == "launch":
        own, _, theirs = " ".join(words).partition(" -- ")
        assert own.split()[0] == "--processes"
        _parses_as("train", theirs.split())
        return
    found = getattr(module, f"{name.capitalize()}Arguments")
    own = words[: words.index("--")] if "--" in words else words
    parse(name, own, found())


def test_blocks_that_are_not_run_say_why_and_parse() -> None:
    blocks = [(page, block) for page in (*PAGES, "docs/performance.md") for block in blocks_of(page)]
    assert {block.language for _, block in blocks} <= {*SHELL, "python", "yaml", "text"}
    waiting = [(page, block) for page, block in blocks if block.reason]
    assert len(waiting) > 5
    for page, block in waiting:
        assert len(block.reason.split()) > 2, f"{page}:{block.line}: a reason is a few words"
        if block.language == "python":
            ast.parse(block.text)
        for command in block.commands if block.language in SHELL else []:
            _parses(command)
    for page, block in blocks:
        if block.language == "yaml" and not block.title:
            assert block.reason == "", f"{page}:{block.line}"


def test_python_is_seen_whole_on_a_wide_screen() -> None:
    """A line of 89 characters fills the column of a page at 1,280 pixels."""
    wide = [
        f"{page}:{block.line}: {line}"
        for page in PAGES
        for block in blocks_of(page)
        for line in block.text.splitlines()
        if block.language == "python" and len(line) > 88
    ]
    assert wide == []


def test_a_flag_that_is_gone_is_noticed() -> None:
    for command in (
        "jaxpg train --run.nonsense 3",
        "jaxpg train pnog",
        "python benchmarks/gone.py",
        "pip install '.[gone]'",
    ):
        with pytest.raises((AssertionError, UserError)):
            _parses(command)


def test_the_readme_s_blocks_are_those_that_are_tested() -> None:
    policy, from_python = (block for block in blocks_of("README.md") if block.language == "python")
    assert policy.text in (DOCS / "examples" / "two_layers.py").read_text(), "the example is run by test_own_policy.py"
    assert policy.text in next(b.text for b in blocks_of("docs/guides/policy.md") if b.title == "two_layers.py")
    ast.parse(from_python.text)
    train, test, own = (block for block in blocks_of("README.md") if block.language == "sh")
    for block, end in ((train, "-m jaxpg.train"), (test, "-m pytest")):
        assert re.fullmatch(rf"python3 -m venv .* {end}\n", block.text), "the form that .ci/run looks for"
    for command in own.commands:
        _parses(command)


def test_the_guide_s_environments_are_those_that_are_tested() -> None:
    for page, name in {"environments": "grid_world.py", "jax-environments": "falling_ball.py"}.items():
        (shown,) = (block.text for block in blocks_of(f"docs/guides/{page}.md") if block.title == name)
        assert shown == (DOCS / "examples" / name).read_text(encoding="utf-8"), "run by tests/commands/test_own_*.py"


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """Inside the site ``mkdocs build --strict`` checks anchors as well; this test knows the README, too."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", text):
        url = urlparse(target)
        if url.scheme:
            assert (url.scheme, bool(url.netloc)) == ("https", True), target
        elif url.path:
            assert (path.parent / url.path).exists(), target


def test_the_citation_names_this_version() -> None:
    cited = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (jaxpg.__version__, "Apache-2.0")
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


def test_every_recipe_is_described() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \|", (DOCS / "recipes.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(packaged_recipes())


def test_every_message_of_troubleshooting_is_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "jaxpg").rglob("*.py"))
    code = re.sub(r"\"\s*\n\s*f?\"", "", code)  # sentences that are written in several pieces
    headings = re.findall(r"^### (.*)$", (DOCS / "guides" / "troubleshooting.md").read_text(), re.MULTILINE)
    messages = [message for heading in headings for message in re.findall(r"`([^`]+)`", heading)]
    assert len(messages) > 15
    assert [message for message in messages if message not in code] == []


def test_the_laboratory_is_dated_and_has_short_lines() -> None:
    for path in sorted(DOCS.glob("lab/*.md")):
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.name not in ("index.md", "queue.md"):
            assert re.search(r"\(.*2026-\d\d-\d\d.*\)$", lines[0]), f"{path.name}: the title has no date"
        inside = False
        for number, line in enumerate(lines, start=1):
            inside ^= line.startswith("```")
            is_long = len(line) > 120 and not inside and not line.lstrip().startswith(("|", "!["))
            assert not is_long, f"{path.name}:{number}: {len(line)} characters"


def _module(name: str) -> ModuleType:
    """A file of the documentation, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawing_of_the_architecture_is_the_one_that_the_command_draws() -> None:
    assert (DOCS / "img" / "architecture.svg").read_text(encoding="utf-8") == _module("pictures").architecture()


def test_lines_are_broken_between_the_parts_of_a_flag_and_of_a_name_alone() -> None:
    def shown(html: str) -> str:
        """The page with | where a line may be broken, and with () around what stays whole."""
        marked = re.sub(r'<span class="(?:flag|whole)">(.*?)</span>', r"(\1)", _module("hooks").on_page_content(html))
        return marked.replace("<wbr>", "|")

    flag = "<code>jaxpg --run.dir x -- --a-b 1e-4</code>"
    assert shown(flag) == "<code>jaxpg (--run.dir) x (--) (--a-b) (1e-4)</code>"
    assert shown(f"<td>{flag}</td>") == "<td><code>jaxpg (--run.)|(dir) x (--) (--a-)|(b) (1e-4)</code></td>"
    assert shown('<h1 id="2026-11-22">On 2026-11-22</h1>') == '<h1 id="2026-11-22">On (2026-11-22)</h1>'
    assert shown("<td>no_name_of_the_code <code>short_name 1.25.0</code></td>").count("|") == 0
    for name in ("mspacman_|random_|search", "gymnasium.|wrappers.|Flatten|Observation", "long_|names_|of_|files.py"):
        assert shown(f"<td><code>{name.replace('|', '')}</code></td>") == f"<td><code>{name}</code></td>"
    made = "".join(f'<span class="n">{part}</span>' for part in ("field", "(", "default_factory", "=", "dict", ")"))
    assert shown(made) == '<span class="n">{}</span>'
    assert shown("<code>--a_flag_that_is_much_too_long_for_a_telephone x</code>").count("(") == 0
    assert shown("<code>f(x) -&gt; y</code>") == "<code>f(x) (-&gt;) y</code>"
    assert shown("<td>32 x 64, 1.5 +- 0.2</td>") == "<td>32\xa0x\xa064, 1.5 \xb1\xa00.2</td>"
    assert shown(f"<td>{'word ' * 20}</td>").startswith('<td class="words">word')
    assert shown("(default:\n <code>1</code>\n)") == "(default:\n <code>1</code>)"


def test_the_path_of_a_page_is_a_link() -> None:
    page = SimpleNamespace(url="reference/settings/")
    shown = _module("hooks").on_page_content
    assert shown("(docs/guides/tune.md)", page) == '(<a href="../../guides/tune/">docs/guides/tune.md</a>)'
    for same in ("<code>docs/guides/tune.md</code>", '<a href="x">docs/guides/tune.md</a>', "docs/guides/nothing.md"):
        assert shown(same, page) == same


def test_blocks_are_read_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(
        "words\n\n<!-- not run: needs a GPU here -->\n```shell\na \\\n    b # why\n# c\n```\n"
        '```python title="x.py"\n1\n```\n'
    )
    first, second = blocks_of("page.md")
    assert first == Block(3, "shell", "", "a \\\n    b # why\n# c\n", "needs a GPU here")
    assert first.commands == ["a b"]
    assert second == Block(9, "python", "x.py", "1\n", "")
    (tmp_path / "page.md").write_text("  ```shell\n  a\n  ```\n")
    with pytest.raises(AssertionError, match="indented"):
        blocks_of("page.md")


def test_a_page_is_run_as_a_reader_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    written = '```python title="a.py"\nprint("from the file")\n```\n```shell\npython a.py > said\n```\n'
    waiting = "<!-- not run: it would fail here -->\n```shell\nfalse\n```\n"
    checked = '```python\nassert open("said").read() == "from the file\\n"\n```\n'
    (tmp_path / "page.md").write_text(written + waiting + checked)
    (tmp_path / "first").mkdir()
    run_page("page.md", tmp_path / "first")
    (tmp_path / "page.md").write_text(written + "\n```shell\nfalse\ntrue\n```\n")
    (tmp_path / "second").mkdir()
    with pytest.raises(AssertionError, match=r"page.md:8: exit code 1"):
        run_page("page.md", tmp_path / "second")
