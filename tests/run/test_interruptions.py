"""An interrupted run goes on as if it had not been: signals, kills, resumes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxpg.config import dump, load_history, load_recipe
from jaxpg.core.errors import FaultError
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.rollout import Rollout
from jaxpg.run.segments import Segments
from jaxpg.run.writers import JsonLines
from jaxpg.train import main
from jaxpg.viewing.run_log import read_run
from jaxpg.viewing.tables import runs_table
from jaxpg.viewing.views import number_runs
from tests.faults.runs import lines, wait_for_lines
from tests.runs import (
    CARTPOLE,
    LANES,
    PER_ITERATION,
    Signals,
    cartpole,
    check_whole,
    games,
    records,
    run,
    saved,
    summary,
    untimed,
)


@pytest.fixture
def signals(monkeypatch):
    return Signals(monkeypatch)


SEGMENTS = ("--checkpoint.segment-agent-steps", "16", "--env.max-episode-agent-steps", "16")
"""Two iterations each."""


class Killed(BaseException):
    """Stands for the end of the process in the middle of anything."""


def check_same(folder: Path, uninterrupted: Path) -> None:
    """To the bit, but for what a clock says."""
    assert untimed(records(folder)) == untimed(records(uninterrupted))
    assert untimed(games(folder)) == untimed(games(uninterrupted))
    ours, theirs = saved(folder), saved(uninterrupted)
    assert ours[1] == theirs[1]
    of_saves = {"wall_seconds": 0, "best_iteration": None, "best_score": None}
    assert replace(ours[2], **of_saves) == replace(theirs[2], **of_saves)


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "SIGINT", 130), (signal.SIGHUP, "SIGHUP", 129)],
)
def test_a_signal_ends_the_run_after_the_iteration_and_resume_finishes_it(
    number, name, code, signals, tmp_path, capsys
):
    signals.send(number, iteration=7)
    folder = cartpole(tmp_path / "run", iterations=12, code=code)
    signals.stop()
    assert summary(folder)["ended"] == name
    assert summary(folder)["iteration"] == 7
    check_whole(folder, iterations=7)
    assert f"jaxpg: {name}; {7 * PER_ITERATION} agent steps" in capsys.readouterr().out
    first = records(folder)
    run("--resume", str(folder))
    check_whole(folder, iterations=12)
    assert records(folder)[:7] == first
    assert summary(folder)["ended"] == "budget of agent steps used"


@pytest.mark.parametrize("iteration", [10, 12])
def test_a_run_that_is_ended_and_resumed_is_the_uninterrupted_run(iteration, uninterrupted, signals, tmp_path, capsys):
    """At 10 the signal falls on a save, at 12 it makes one of its own."""
    signals.send(signal.SIGTERM, iteration=iteration)
    folder = cartpole(tmp_path / "run", "--checkpoint.every-iterations", "5", iterations=20, code=143)
    signals.stop()
    capsys.readouterr()
    run("--resume", str(folder))
    cost = f"jaxpg: {folder}: {iteration * PER_ITERATION} agent steps of unfinished games are played again, which takes"
    assert re.search(f"{re.escape(cost)} at most about \\d+ s; --checkpoint.no-replay begins", capsys.readouterr().out)
    check_whole(folder, iterations=20)
    check_same(folder, uninterrupted)


def test_a_run_without_a_checkpoint_begins_from_the_beginning(uninterrupted, tmp_path):
    folder = cartpole(tmp_path / "run", "--checkpoint.every-iterations", "5", iterations=20)
    shutil.rmtree(folder / "checkpoints")
    run("--resume", str(folder))
    check_whole(folder, iterations=20)
    check_same(folder, uninterrupted)


def test_without_replay_a_resumed_run_begins_new_games_and_says_so(uninterrupted, signals, tmp_path, capsys):
    signals.send(signal.SIGTERM, iteration=10)
    folder = cartpole(tmp_path / "run", "--checkpoint.every-iterations", "5", iterations=20, code=143)
    signals.stop()
    capsys.readouterr()
    run("--resume", str(folder), "--checkpoint.no-replay")
    assert "checkpoint.replay is off: new games are begun" in capsys.readouterr().err
    check_whole(folder, iterations=20)
    assert saved(folder)[2].segment == 1
    assert untimed(records(folder))[:10] == untimed(records(uninterrupted))[:10]
    assert untimed(records(folder))[10:] != untimed(records(uninterrupted))[10:]


@pytest.mark.parametrize(
    "iteration", [6, pytest.param(10, marks=pytest.mark.long), pytest.param(14, marks=pytest.mark.long)]
)
def test_a_run_that_was_killed_repeats_itself_to_the_bit_from_its_last_save(
    iteration, uninterrupted, tmp_path, monkeypatch
):
    """Killed right after writing an iteration: 5 and 10 are saved, and what came later must come again, once."""
    write = JsonLines.write

    def write_then_die(writer, record, episodes):
        write(writer, record, episodes)
        if record["iteration"] == iteration:
            raise Killed

    folder = tmp_path / "run"
    flags = ["--run.dir", str(folder), "--run.budget-agent-steps", "640", "--checkpoint.every-iterations", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "write", write_then_die)
        with pytest.raises(Killed):
            main([*CARTPOLE, *flags])
    assert not (folder / "summary.json").exists()
    assert len(records(folder)) == iteration
    run("--resume", str(folder))
    check_whole(folder, iterations=20)
    check_same(folder, uninterrupted)


@pytest.fixture(scope="module")
def uninterrupted_segments(tmp_path_factory) -> Path:
    return cartpole(tmp_path_factory.mktemp("segments") / "whole", *SEGMENTS, iterations=8)


@pytest.mark.parametrize("iteration", [4, pytest.param(7, marks=pytest.mark.long)])
def test_a_run_of_several_segments_is_resumed_to_the_bit(iteration, uninterrupted_segments, signals, tmp_path):
    """Ended where a segment ends, and in the fourth one."""
    signals.send(signal.SIGTERM, iteration=iteration)
    folder = cartpole(tmp_path / "run", *SEGMENTS, iterations=8, code=143)
    signals.stop()
    run("--resume", str(folder))
    check_same(folder, uninterrupted_segments)


def test_a_segment_that_is_shorter_than_games_lasts_until_the_first_game_of_each_lane_is_over(
    signals, tmp_path, monkeypatch
):
    """In a run that is not interrupted, and in one that is, whose emulators fail once more before they are where they
    were.
    """
    short = ("--checkpoint.segment-agent-steps", "1")
    segments = []
    end = Segments.end
    note_end = lambda own: (segments.append(own._fleet.first_episodes_are_over), end(own))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(Segments, "end", note_end)
        whole = cartpole(tmp_path / "whole", *short, iterations=15)
    assert len(segments) > 1
    assert np.all(segments)
    assert len(games(whole)) >= len(segments) * LANES
    signals.send(signal.SIGTERM, iteration=9)
    folder = cartpole(tmp_path / "run", *short, iterations=15, code=143)
    signals.stop()
    replay = Rollout.replay

    def replay_a_little(rollout, seeds, actions):
        yield next(replay(rollout, seeds, actions))
        raise FaultError("an emulator failed")

    with monkeypatch.context() as patch:
        patch.setattr(Rollout, "replay", replay_a_little)
        run("--resume", str(folder), code=1)
    run("--resume", str(folder))
    check_same(folder, whole)


def test_every_segment_seeds_the_emulators_anew(tmp_path, monkeypatch):
    """Were the segments seeded alike, the same few games would be learned from again and again."""
    seeds = []
    reset = Rollout.reset
    monkeypatch.setattr(Rollout, "reset", lambda rollout, given: (seeds.append(given), reset(rollout, given)))
    folder = cartpole(tmp_path / "run", *SEGMENTS, iterations=6)
    for segment, given in enumerate(seeds):
        assert given.tolist() == lane_seeds(1, segment, LANES).tolist()
    assert len(seeds) == 3  # and none after the last save, where nothing is played any more
    assert saved(folder)[2].segment == 3


def test_the_window_of_returns_survives_a_resume(signals, tmp_path):
    """More than a hundred games before the signal, so that the window has slid, and games after it."""
    signals.send(signal.SIGTERM, iteration=80)
    folder = cartpole(tmp_path / "run", iterations=90, code=143)
    signals.stop()
    before = saved(folder)[2]
    assert len(before.last_returns) == 100 < before.episodes
    assert list(before.last_returns) == [float(game["return"]) for game in games(folder)][-100:]
    run("--resume", str(folder))
    check_whole(folder, iterations=90)


def test_resuming_a_finished_run_changes_nothing_and_replays_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Rollout, "replay", lambda *arguments: pytest.fail("its games are played again"))
    folder = cartpole(tmp_path / "run", iterations=3)
    before = records(folder), games(folder), saved(folder)[:2], summary(folder)
    for _ in range(2):
        run("--resume", str(folder))
    assert (records(folder), games(folder), saved(folder)[:2], summary(folder)) == before


def test_while_a_run_goes_on_with_a_larger_budget_and_after_it_was_killed_nothing_says_that_it_ended(
    tmp_path, monkeypatch
):
    folder = cartpole(tmp_path / "run", iterations=3)
    assert read_run(str(folder)).ended == "budget of agent steps used"
    ended = []

    def look_and_die(writer, record, episodes):
        ended.append(read_run(str(folder)).ended)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "write", look_and_die)
        with pytest.raises(Killed):
            main(["--resume", str(folder), "--run.budget-agent-steps", str(5 * PER_ITERATION)])
    assert ended == [None]
    assert not (folder / "summary.json").exists()
    assert read_run(str(folder)).ended is None
    assert runs_table(number_runs([read_run(str(folder))])).rows[0][-1] == "not yet, or interrupted"
    assert load_recipe(folder / "config.yaml").run.budget_agent_steps == 5 * PER_ITERATION
    run("--resume", str(folder))
    (change,) = [one for one in load_history(folder / "config.yaml") if one.setting == "run.budget_agent_steps"]
    assert (change.agent_steps, change.before, change.after) == tuple(n * PER_ITERATION for n in (3, 3, 5))
    log = read_run(str(folder))
    assert "setting: run.budget_agent_steps" in dump(log.config, log.history)
    assert summary(folder)["iteration"] == 5
    check_whole(folder, iterations=5)


@pytest.mark.long
def test_a_terminal_that_goes_costs_words_only(tmp_path):
    """What is written to it fails from then on, and the system sends SIGHUP more than once."""
    folder, (terminal, end_of_process) = tmp_path / "run", os.openpty()
    argv = [*CARTPOLE, "--run.dir", str(folder), "--run.budget-agent-steps", "1000000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxpg.train", *argv], stdin=end_of_process, stdout=end_of_process, stderr=end_of_process
    )
    os.close(end_of_process)
    wait_for_lines(process, folder, 20)
    os.close(terminal)
    wait_for_lines(process, folder, lines(folder) + 20)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 129
    assert summary(folder)["ended"] == "SIGHUP"
    rows = records(folder)
    assert saved(folder)[0][-1] == len(rows)
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
