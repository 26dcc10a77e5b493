"""What processes of a run tell each other before they begin; tests/parallel/test_processes.py has real ones."""

import pytest

from jaxpg.cli import parse_train
from jaxpg.core.errors import UserError
from jaxpg.parallel.team import Team
from jaxpg.train import _common_settings


def _compare(monkeypatch, *everyones: list[str]) -> None:
    said = [_common_settings(parse_train(argv).config, resumes="--resume" in argv) for argv in everyones]
    monkeypatch.setattr(Team, "gather", lambda team, content: said)
    Team.alone().check_same_settings(said[-1])


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--reinforce.discount", "0.5", "reinforce.discount is 0.99 in process 0 and 0.5 in process 1"),
        ("--run.seed", "7", "run.seed is 1 in process 0 and 7 in process 1"),
        ("--checkpoint.no-replay", "", "checkpoint.replay is True in process 0 and False in process 1"),
        ("--env.actions", "3", r"env.actions is \('NOOP', 'RIGHT', 'LEFT'\) in process 0 and \(3,\) in process 1"),
    ],
)
def test_what_differs_is_named_with_both_values(monkeypatch, flag: str, value: str, sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{sentence}; give all processes of a run the same$"):
        _compare(monkeypatch, [], [flag, *([value] if value else [])])


def test_many_differences_are_counted(monkeypatch) -> None:
    others = ["--run.seed", "7", "--env.num-lanes", "8", "--optimizer.learning-rate", "1", "--policy.hidden", "9"]
    with pytest.raises(UserError, match=" in process 2, .* and 1 more; give"):
        _compare(monkeypatch, [], [], others)


def test_another_version_is_named(monkeypatch) -> None:
    theirs = _common_settings(parse_train([]).config, resumes=False)
    monkeypatch.setattr(Team, "gather", lambda team, content: [content, {**theirs, "jax's version": "0.1"}])
    with pytest.raises(UserError, match="^jax's version is .* and 0.1 in process 1"):
        Team.alone().check_same_settings(theirs)


def test_threads_and_folders_are_each_ones_own(monkeypatch) -> None:
    _compare(monkeypatch, [], ["--env.num-threads", "3", "--run.dir", "elsewhere"])
