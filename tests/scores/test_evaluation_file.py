"""``evaluation.json``: written by many at once, read in the form of older versions."""

import dataclasses
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jaxpg.core.errors import UserError
from jaxpg.scores.evaluation_file import add_evaluation, only_writer, read_evaluations
from jaxpg.scores.human_scores import incomparable
from tests.report_runs import made_evaluation


def test_of_eight_evaluations_at_the_same_time_all_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    together = threading.Barrier(8)

    def add(seed: int) -> None:
        together.wait()
        add_evaluation(path, dataclasses.replace(made_evaluation([1.0, 2.0]), seed=seed))

    threads = [threading.Thread(target=add, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.seed for one in read_evaluations(path)) == list(range(8))


def test_an_evaluation_is_shown_by_its_scores_and_not_by_its_episodes() -> None:
    shown = repr(made_evaluation([1.0] * 99 + [3.0]))
    assert all(name in shown for name in ("mean=1.02, ", "mean_high=", "cut="))
    assert not any(name in shown for name in ("returns=", "lengths_agent_steps=", "num_lanes"))


def test_fewer_games_do_not_replace_more(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    for returns in ([1.0] * 100, [2.0] * 32, [3.0] * 100):
        add_evaluation(path, made_evaluation(returns))
    assert [(one.episodes, one.mean) for one in read_evaluations(path)] == [(32, 2.0), (100, 3.0)]


def test_an_evaluation_of_an_older_version_is_read_with_todays_statistics(tmp_path: Path) -> None:
    """Fifty agent steps of Pong were "0.586 of a human", and the interval of three games was the bootstrap's."""
    path = tmp_path / "evaluation.json"
    returns = [0.0, 0.0, -1.0]
    old = dataclasses.asdict(made_evaluation(returns))
    old |= {"mean_low": -1.0, "mean_high": 0.0, "human_normalized": 0.586}
    old["env"] |= {"max_episode_agent_steps": 50, "frame_skip": 4}
    del old["distinct"], old["cut"]
    path.write_text(json.dumps([old]))
    [evaluation] = read_evaluations(path)
    assert (evaluation.distinct, evaluation.cut, evaluation.human_normalized) == (None, 3, None)
    interval = stats.t.interval(0.95, 2, np.mean(returns), stats.sem(returns))
    assert [evaluation.mean_low, evaluation.mean_high] == pytest.approx(interval)
    assert evaluation.mean == old["mean"]


def test_a_file_that_cannot_be_written_is_noticed_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.with_name("evaluation.json.lock").mkdir()
    with pytest.raises(UserError, match=r"evaluation.json: cannot be written: Is a directory"), only_writer(path):
        raise AssertionError


@pytest.mark.parametrize("change", [{"mean": 1e308}, {"seed": 10**400}, {"episodes": -1}, {"actions": "\x1b[31m"}])
def test_numbers_and_names_that_no_evaluation_has_are_refused(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "evaluation.json"
    content = dataclasses.asdict(made_evaluation([1.0, 2.0]))
    path.write_text(json.dumps([content]))
    assert len(read_evaluations(path)) == 1
    path.write_text(json.dumps([content | change]))
    with pytest.raises(UserError, match="damaged"):
        read_evaluations(path)


@pytest.mark.parametrize(
    "env",
    [
        {"game": ["Pong"]},
        {"backend": {}},
        {"frame_skip": "x"},
        {"frame_skip": 10**15, "max_episode_agent_steps": "x"},
    ],
)
def test_settings_of_emulators_may_be_anything(env: dict) -> None:
    assert incomparable({"game": "Pong", **env}) in (None, "the settings of the emulators cannot be read")
