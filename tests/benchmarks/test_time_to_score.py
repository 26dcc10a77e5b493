"""When a run reached its target, and the median over seeds of which some never do."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from time_to_score import Outcome, main, make_table, medians, outcome
from trainings import call

from jaxpg.viewing.run_log import read_run
from tests.report_runs import made_run

LUCKY_START = [20.0] * 50  # a mean of fewer than 100 games does not count
RETURNS = [*LUCKY_START, *[0.0] * 69, 18.0, 17.0, 19.0]  # the 120th game ends in iteration 121


def _outcome(folder: Path, returns: list[float], target: float = 18.0) -> Outcome:
    return outcome(1, read_run(str(made_run(folder, returns=returns))).records, target)


def test_a_target_is_reached_by_the_first_mean_of_100_games_at_it(tmp_path: Path) -> None:
    assert _outcome(tmp_path / "run", RETURNS) == Outcome(1, 121_000, 121.0, 19.0)


def test_99_games_are_too_few_and_100_are_enough(tmp_path: Path) -> None:
    assert not _outcome(tmp_path / "few", [18.0] * 99).reached
    assert _outcome(tmp_path / "enough", [18.0] * 100).seconds == 101.0


def test_a_seed_that_fails_counts_as_infinity(tmp_path: Path) -> None:
    failed = _outcome(tmp_path / "failed", RETURNS, target=19.5)
    assert failed == Outcome(1, math.inf, math.inf, 19.0)
    assert not failed.reached
    fast, slow = Outcome(2, 1000, 10.0, 18.0), Outcome(3, 900, 20.0, 18.5)
    assert medians([fast, failed, slow]) == (1000, 20.0), "the larger of the two that succeeded"
    assert medians([failed, fast, failed]) == (math.inf, math.inf)
    lines = make_table([fast, failed, slow], 19.5, "Pong").splitlines()[-3:]
    assert lines == [
        "| 1 | never | never | 19.00 | no |",
        "| 3 | 900 | 20 | 18.50 | yes |",
        "| median | 1,000 | 20 | | 2 of 3 |",
    ]


def test_a_run_without_a_finished_game_has_no_mean(tmp_path: Path) -> None:
    assert _outcome(tmp_path / "run", []) == Outcome(1, math.inf, math.inf, None)


def test_finished_runs_are_read_and_not_repeated(tmp_path: Path, monkeypatch) -> None:
    for seed, returns in ((1, RETURNS), (2, LUCKY_START), (3, [18.0] * 110)):
        folder = made_run(tmp_path / "time_to_score" / f"pong-18-{seed}", returns=returns, seed=seed)
        (folder / "summary.json").write_text('{"ended": "budget of agent steps used"}')
    monkeypatch.setattr("sys.argv", ["time_to_score.py", "configs/pong.yaml", "--out", str(tmp_path)])
    monkeypatch.setattr("trainings.call", None)
    main()
    monkeypatch.setattr("sys.argv", [*sys.argv, "--", "--policy.hidden", "8"])
    with pytest.raises(SystemExit, match="a run with other settings"):
        main()
    written = json.loads((tmp_path / "time_to_score.json").read_text())
    assert written["median_seconds"] == 121.0
    assert [seed["agent_steps"] for seed in written["seeds"]] == [121_000, None, 101_000]
    assert "| median | 121,000 | 121 | | 2 of 3 |" in (tmp_path / "time_to_score.md").read_text()
    assert (tmp_path / "time_to_score.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupt_is_the_trainings_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __init__(self):
            self.answers = [KeyboardInterrupt(), 130]

        def __enter__(self):
            return self

        def __exit__(self, *error):
            assert not self.answers, "left before the training had saved"

        def wait(self):
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(subprocess, "Popen", lambda command: Process())
    with pytest.raises(SystemExit) as ended:
        call("train", "configs/cartpole.yaml")
    assert ended.value.code == 130
