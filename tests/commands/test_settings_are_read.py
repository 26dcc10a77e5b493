"""Every setting is read by the code whose behaviour it is to change; vulture, which knows only names, cannot say so."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jaxpg.cli import parse_train
from jaxpg.config import Config, schedule_progress
from jaxpg.experiment import build
from tests.runs import run

SECTIONS = {field.name: field.type for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}
PROBE = [
    *("--env.game", "Count", "--env.backend", "probe", "--observation.name", "vector", "--policy.hidden", "4"),
    *("--env.num-lanes", "2", "--run.budget-agent-steps", "8"),
]
REINFORCE = ["--reinforce.rollout-agent-steps", "4"]

GYMNASIUM = ["--env.game", "FrozenLake-v1", "--env.backend", "gymnasium", "--env.num-lanes", "2"]
ATARI = ["--env.game", "Pong", "--env.num-lanes", "2", "--env.num-threads", "1", "--policy.hidden", "4"]
BUILT = [
    [*ATARI, "--observation.name", "stack84", "--policy.name", "compact"],
    [*ATARI, "--env.backend", "ale"],
    [*GYMNASIUM, "--env.options", '{"map_name": "8x8"}', "--env.workers", "1"],
]


@contextmanager
def read_settings() -> Iterator[set[tuple[type, str]]]:
    """Collects the fields that code of jaxpg names and reads.

    A loop over the names of all fields does not name them, and neither do the functions that ``dataclasses`` makes.
    """
    found: set[tuple[type, str]] = set()
    fields = {section: {field.name for field in dataclasses.fields(section)} for section in SECTIONS.values()}

    def read(self: Any, name: str) -> Any:
        if name in fields[type(self)]:
            frame = sys._getframe(1)
            code, module = frame.f_code, frame.f_globals.get("__name__", "")
            is_generated = code.co_filename.startswith("<")  # such as the method __eq__ of a dataclass
            if module.startswith("jaxpg.") and name in code.co_names and not is_generated:
                found.add((type(self), name))
        return object.__getattribute__(self, name)

    with pytest.MonkeyPatch.context() as patch:
        for section in fields:
            patch.setattr(section, "__getattribute__", read, raising=False)
        yield found


def _play(folder: Path) -> None:
    """Tiny runs and experiments that together use every setting."""
    run(*PROBE, *REINFORCE, "--run.dir", str(folder / "reinforce"))
    run("--resume", str(folder / "reinforce"), "--run.budget-agent-steps", "16")
    evolution = ["--run.learner", "evolution", "--evolution.pairs", "1", "--run.budget-agent-steps", "256"]
    run(*PROBE, *evolution, "--run.dir", str(folder / "evolution"))
    run(*PROBE, "--run.learner", "random_search", "--run.dir", str(folder / "search"))
    for words in BUILT:
        build(parse_train(words).config).fleet.close()


def _unread(found: set[tuple[type, str]]) -> set[str]:
    return {
        f"{key}.{field.name}"
        for key, section in SECTIONS.items()
        for field in dataclasses.fields(section)
        if (section, field.name) not in found
    }


def test_reads_are_told_from_loops_over_all_fields() -> None:
    config = Config()
    with read_settings() as found:
        assert config.env.game == "Pong"
        dataclasses.asdict(config)
        assert config == dataclasses.replace(config)
    assert found == set(), "this file is none of jaxpg's"
    with read_settings() as found:
        schedule_progress(config, 8)
    assert found == {(type(config.run), "schedule_agent_steps"), (type(config.run), "budget_agent_steps")}


@pytest.mark.long
def test_every_setting_is_read(tmp_path: Path) -> None:
    with read_settings() as found:
        _play(tmp_path)
    assert sorted(_unread(found)) == []
