"""What of the container can be checked without building it."""

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each, whole lines without comments."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def last_stage() -> dict[str, list[str]]:
    """The arguments of each instruction of the stage that becomes the image."""
    found: dict[str, list[str]] = {}
    for name, arguments in instructions():
        if name == "FROM":
            found = {}
        found.setdefault(name, []).append(arguments)
    return found


def copied() -> list[str]:
    """What is copied from this folder, in all stages."""
    copies = [shlex.split(arguments) for name, arguments in instructions() if name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_is_there_and_not_ignored(source):
    assert (ROOT / source).exists()
    first, *patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    assert "!" + source.split("/")[0] in patterns
    assert [pattern for pattern in patterns if not pattern.startswith("!")] == ["**/__pycache__"]


def test_nothing_is_let_in_that_is_not_copied():
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == {source.split("/")[0] for source in copied()}


def test_what_the_build_reads_is_copied():
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "requirements.lock"} <= set(copied())


def test_the_user_has_a_number_and_is_not_root():
    user, group = last_stage()["USER"][-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user}" in last_stage()["RUN"][-1]
    assert f"--gid {group}" in last_stage()["RUN"][-1]


def test_runs_are_kept_in_a_folder_of_the_users():
    assert last_stage()["WORKDIR"] == ["/jaxpg"]
    assert "install --directory --owner jaxpg --group jaxpg /jaxpg /jaxpg/runs" in last_stage()["RUN"][-1]
    assert "jaxpg/recipes configs" in last_stage()["COPY"]


def test_it_trains():
    program, *arguments = json.loads(last_stage()["ENTRYPOINT"][0])
    assert (program, arguments) == ("python", ["-m", "jaxpg.train"])
    assert importlib.util.find_spec(arguments[1])


def test_the_lock_file_holds_and_the_extras_are_there():
    installs = [arguments for name, arguments in instructions() if name == "RUN" and "pip install" in arguments]
    assert installs
    assert all("-c requirements.lock" in line or "--no-deps" in line for line in installs)
    named = re.findall(r"EXTRAS=(\w+)", DOCKERFILE)
    named += re.search(r"an extra of pyproject.toml: (\w+) or (\w+)", DOCKERFILE).groups()
    assert set(named) <= set(PROJECT["optional-dependencies"])


def test_both_stages_have_one_python_which_is_supported():
    bases = {arguments.split()[0] for name, arguments in instructions() if name == "FROM"}
    (base,) = bases
    version = re.fullmatch(r"python:(\d\.\d+)-slim", base)[1]
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
