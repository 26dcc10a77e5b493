"""``train --profile``: a trace that Perfetto opens, of a run that plays the same games."""

import gzip
import json
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.run.profile import Profile, check_profile
from tests.runs import cartpole, records, untimed


def _events(folder: Path) -> list[dict]:
    """What Perfetto reads: Chrome's JSON format, in which an event that took time has a beginning and a duration."""
    [path] = (folder / "profile").rglob("perfetto_trace.json.gz")
    return [event for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"] if event.get("ph") == "X"]


def test_a_profiled_run_is_the_same_run_and_its_trace_has_what_was_computed(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = cartpole(tmp_path / "run", *("--checkpoint.every-iterations", "5", "--profile", "19", "99"), iterations=20)
    assert untimed(records(folder)) == untimed(records(uninterrupted))
    [said] = [line for line in capsys.readouterr().out.splitlines() if "perfetto" in line]
    assert said.startswith(f"jaxpg: profile from iteration 19 on: {folder}/profile/")
    events = _events(folder)
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events)
    names = {event["name"] for event in events}
    assert any("dot" in name for name in names), "products of the network"
    assert any("collect" in name or "_iterate" in name for name in names), "jaxpg's own functions"


def test_numbers_that_are_no_iterations_are_one_sentence_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = cartpole(tmp_path / "run", "--profile", "3", "2", code=2)
    said = capsys.readouterr().err
    assert said == "jaxpg: profile: the first and the last iteration, such as 10 12, not 3 2\n"
    assert not folder.exists()
    with pytest.raises(UserError, match="not 0 2"):
        check_profile((0, 2))


def test_iterations_that_are_over_cannot_be_profiled(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="iteration 5 is over; the run goes on with iteration 8"):
        Profile(tmp_path, 5, 9, 7)
