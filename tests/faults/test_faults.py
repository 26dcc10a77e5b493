"""The short form of ``python -m tests.faults``: a few of each fault."""

import os
import shutil
from signal import SIGINT, SIGTERM

import pytest

from tests.faults import compare, damage
from tests.faults.disk import full_disk, read_only
from tests.faults.kills import kill_at_random
from tests.faults.runs import Outcome, uninterrupted
from tests.faults.signals import clock_jumps_back, signalled

pytestmark = pytest.mark.long


def check(outcome: Outcome) -> None:
    assert not outcome.violations, "\n".join(outcome.violations)


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    outcome = kill_at_random("reinforce", rounds=2, seed=1, folder=tmp_path)
    check(outcome)
    assert outcome.counts["kills"] == 2, outcome.counts
    assert outcome.counts["identical"] == outcome.counts["runs"], outcome.counts


def test_a_damaged_checkpoint_is_never_loaded(tmp_path):
    outcome = damage.damage_checkpoints(13, seed=1, folder=tmp_path, to_the_end=0)
    check(outcome)
    assert sum(outcome.counts.values()) == 13, outcome.counts


def test_a_disk_that_was_full_for_a_while_costs_nothing(tmp_path):
    check(full_disk("reinforce", tmp_path / "full", freed=True))


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    check(read_only("reinforce", tmp_path / "read-only"))


def test_a_clock_that_jumps_back_does_not_matter(tmp_path):
    check(clock_jumps_back("reinforce", tmp_path / "run"))


def test_sigterm_twice_loses_nothing(tmp_path):
    check(signalled("reinforce", SIGTERM, tmp_path / "run", seed=1, times=2))


def test_sigint_at_the_start_loses_nothing(tmp_path):
    check(signalled("reinforce", SIGINT, tmp_path / "run", seed=1, at_start=True))


def test_a_lost_line_a_doubled_game_a_lost_event_and_a_wrong_weight_are_differences(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted("reinforce"), folder)
    assert not compare.differences("reinforce", folder)
    for name, change in (("metrics.jsonl", lambda x: x[:50] + x[51:]), ("episodes.csv", lambda x: x[:9] + x[8:])):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(change(lines)))
        found = compare.differences("reinforce", folder)
        assert any(name in what for what in found), f"a changed {name} was not noticed: {found}"
        (folder / name).write_text("".join(lines))
    (events,) = (folder / "tensorboard").iterdir()
    os.truncate(events, events.stat().st_size // 2)
    found = compare.differences("reinforce", folder)
    assert found
    assert all("tensorboard" in what for what in found)
    assert not compare.differences("reinforce", folder, has_gaps_in_tensorboard=True)
    whole = compare.expected("reinforce")
    wrong = whole._replace(arrays={name: x[:-1] + bytes([x[-1] ^ 1]) for name, x in whole.arrays.items()})
    assert len(compare.compare(whole, wrong)) == len(whole.arrays) > 3


def test_a_wrongly_restored_array_is_reported(tmp_path, monkeypatch):
    """A checkpoint that is loaded, but as that of another iteration, or with a bit that was flipped."""
    run, good = tmp_path / "run", damage.subject("reinforce").good
    shutil.copytree(damage.subject("reinforce").folder, run)
    newest, before = sorted(good, reverse=True)[:2]
    assert damage.judge("reinforce", run, [False, False], [newest, before]) == ("loaded and equal", "")
    kind, wrong = damage.judge("reinforce", run, [True, False], [newest, before])
    assert kind == "WRONG", "a checkpoint that should have been passed over was loaded"
    assert "WRONG: not what was saved" in wrong
    monkeypatch.setattr(compare, "as_bytes", lambda state: {"x": b"other"})
    assert damage.judge("reinforce", run, [False, False], [newest, before])[0] == "WRONG"
