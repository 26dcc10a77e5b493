"""Trackers: each gets every point once, whatever is killed, and none can hold up or end the training."""

import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from jaxpg.core import user_modules
from jaxpg.core.errors import UserError
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.run_writers import RunWriters
from jaxpg.run.trackers import follow as follow_module
from jaxpg.run.trackers import tracker as tracker_module
from jaxpg.run.trackers.follow import follow
from jaxpg.run.trackers.tracker import Tracker, finish
from jaxpg.run.writers import EPISODE_HEADER
from tests.report_runs import evaluated, filmed, made_run
from tests.runs import cartpole


@pytest.fixture
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without charts."""
    monkeypatch.setattr(follow_module, "_make_page", lambda folder, page, imports: page.write_text("<p>the report</p>"))


@pytest.fixture
def trackio_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads what trackio keeps of its only run: pairs of step and row, in the order in which they came."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    import trackio
    import trackio.sqlite_storage

    places = {"TRACKIO_DIR": tmp_path / "trackio", "MEDIA_DIR": tmp_path / "trackio" / "media"}
    for name, module in list(sys.modules.items()):  # each keeps the place that held when it was imported
        for constant in places.keys() & vars(module).keys() if name.partition(".")[0] == "trackio" else ():
            monkeypatch.setattr(module, constant, places[constant])

    def read() -> list[tuple[int, dict]]:
        [run] = trackio.Api().runs("jaxpg")
        logs = trackio.sqlite_storage.SQLiteStorage.get_logs("jaxpg", run.name)
        return [(row.pop("step"), row) for row in logs]

    return read


def test_the_columns_of_episodes_are_where_they_are_looked_for() -> None:
    assert [EPISODE_HEADER[place] for place in (follow_module.RETURN, follow_module.LENGTH)] == [
        "return",
        "length_agent_steps",
    ]


def _saved(folder: Path, iteration: int) -> None:
    (folder / "checkpoints" / str(iteration)).mkdir()


def _drop_lines_after(folder: Path, iteration: int) -> None:
    """As a resumed run does: the lines of the two files after the checkpoint go."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines[:iteration]))
    header, *rows = (folder / "episodes.csv").read_text().splitlines()
    kept = [row for row in rows if int(row.split(",")[0]) <= 1000 * iteration]
    (folder / "episodes.csv").write_text("".join(f"{row}\n" for row in [header, *kept]))


@pytest.mark.usefixtures("quick_page")
def test_points_are_sent_once_and_not_before_a_checkpoint_holds_them(tmp_path: Path, trackio_rows) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0, 2.0, 3.0, 4.0])
    _saved(folder, 3)
    follow("trackio", folder, lambda: True)  # the training was killed here, two iterations after the save
    curve = [(step, row.get("return_mean_100")) for step, row in trackio_rows() if "iteration" in row]
    assert curve == [(1000, None), (2000, 1.0), (3000, 2.0)]
    whole = made_run(tmp_path / "other", returns=[1.0, 2.0, 30.0, 40.0])  # goes on otherwise, as with other settings
    _drop_lines_after(folder, 3)
    for name in ("metrics.jsonl", "episodes.csv"):
        shutil.copy(whole / name, folder / name)
    _saved(folder, 5)
    filmed(folder, "5")
    (folder / "summary.json").write_text('{"ended": "budget of agent steps used"}')
    evaluated(folder, [1.0, 2.0], checkpoint=3)
    for _ in range(2):  # the second time, nothing is new
        follow("trackio", folder, lambda: True)
    rows = trackio_rows()
    curve = [(step, row.get("return_mean_100")) for step, row in rows if "iteration" in row]
    assert curve == [(1000, None), (2000, 1.0), (3000, 2.0), (4000, 30.0), (5000, 40.0)]
    episodes = [row["episode/return_mean"] for _, row in rows if "iteration" in row and "episode/return_mean" in row]
    assert episodes == [1.0, 2.0, 30.0, 40.0]
    assert [sum(row["episode/return"]["values"]) for _, row in rows if "episode/return" in row] == [1, 1, 1, 1]
    assert [(step, row["evaluation/mean"]) for step, row in rows if "evaluation/mean" in row] == [(3000, 1.5)]
    assert [step for step, row in rows if "video" in row] == [5000]
    assert [step for step, row in rows if "report" in row] == [5000], "only of a run that has ended"
    import trackio

    [run] = trackio.Api().runs("jaxpg")
    assert run.config["env.game"] == "Pong"
    kept = json.loads((folder / "trackers" / "trackio.json").read_bytes())
    assert set(kept) == {"run", "sent", "proof"}, "and no secret of the tracker"
    assert kept["run"] == run.name


@pytest.mark.parametrize(
    "content", ["", "[]", '{"run": "a"}', '{"run": "../a", "sent": []}', '{"run": "*", "sent": []}']
)
def test_a_damaged_name_of_the_tracked_run_is_never_used(tmp_path: Path, content: str) -> None:
    folder = made_run(tmp_path / "mine", returns=[1.0])
    (folder / "trackers").mkdir()
    (folder / "trackers" / "trackio.json").write_text(content)
    with pytest.raises(UserError, match="trackio.json: damaged; remove it to begin another tracked run"):
        follow("trackio", folder, lambda: True)


def test_a_tracker_that_is_not_installed_is_one_sentence_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else find(name, *rest)
    )
    folder = cartpole(tmp_path / "run", "--run.writers", "tensorboard", "mlflow", code=2)
    assert capsys.readouterr().err == "jaxpg: run.writers: mlflow is not installed; pip install 'jaxpg[mlflow]'\n"
    assert not folder.exists()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Shell commands that stand for the process of a tracker."""
    path = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(path))

    def write(commands: str) -> None:
        path.write_text(f"#!/bin/sh\necho started >>{tmp_path}/started\n{commands}\n")
        path.chmod(0o755)

    return write


def _wait_until(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _fails(tracker: Tracker) -> bool:
    try:
        tracker.write({}, [])
    except OSError:
        return True
    return False


def test_a_tracker_that_fails_costs_one_sentence_is_tried_again_and_hides_no_other_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program
) -> None:
    program("echo 'jaxpg: no token.' >&2; exit 1")
    tracker = Tracker("wandb", tmp_path)
    _wait_until(lambda: _fails(tracker))
    said: list[str] = []

    class _Full:
        def write(self, record: object, episodes: object) -> None:
            if record["iteration"] > 2:
                raise OSError("tensorboard/ cannot be written")

        def close(self) -> None: ...

    writers = RunWriters(tmp_path, RunProgress(), [tracker, _Full()], said.append)
    for iteration in range(1, 6):
        writers.write({"iteration": iteration, "agent_steps": iteration}, [])
    writers.close()
    end = "; the training goes on, and what is missing is written later"
    assert said == [f"wandb: no token{end}", f"tensorboard/ cannot be written{end}"]
    assert tracker.wait(0.0) is None, "it was said before"
    assert Tracker("wandb", tmp_path).wait(60.0) == "wandb: no token"
    program("cat; exit 0")  # the token is there now
    monkeypatch.setattr(tracker_module, "SECONDS_BETWEEN_TRIES", -1.0)
    assert _fails(tracker), "until it has gone on for a while"
    monkeypatch.setattr(tracker_module, "SECONDS_UNTIL_WELL", -1.0)
    assert not _fails(tracker)
    tracker.end()
    assert tracker.wait(60.0) is None
    assert (tmp_path / "started").read_text() == "started\n" * 3


def test_the_end_of_a_run_waits_a_bounded_time_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, program
) -> None:
    program(f"sleep 600 & echo $! >{tmp_path}/child; wait")
    monkeypatch.setattr(tracker_module, "SECONDS_TO_FINISH", 0.2)
    tracker = Tracker("trackio", tmp_path)
    _wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    tracker.close()
    finish([tracker])
    said = capsys.readouterr().err
    assert said.startswith("jaxpg: trackio: not everything was sent in time; the next --resume, evaluate or record ")
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    _wait_until(lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text())


def test_what_a_tracker_is_sent_needs_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str], program) -> None:
    """After an evaluation: the process is started for a run that a tracker shows, and for no other."""
    program("cat; exit 0")
    made_run(tmp_path / "mine", returns=[1.0])
    tracker_module.bring_up_to_date(tmp_path / "mine")
    assert not (tmp_path / "started").exists()
    (tmp_path / "mine" / "trackers").mkdir()
    place = tmp_path / "mine" / "trackers" / "wandb.json"
    for proof in ("", tracker_module.proof_of("wandb", "another"), tracker_module.proof_of("mlflow", "x")):
        place.write_text(json.dumps({"run": "x", "proof": proof}))  # a stranger's, who has chosen a run of this account
        tracker_module.bring_up_to_date(tmp_path / "mine")
        assert not (tmp_path / "started").exists()
        assert "wandb gets nothing, because another user tracked this run" in capsys.readouterr().out
    place.write_text(json.dumps({"run": "x", "proof": tracker_module.proof_of("wandb", "x")}))
    with tracker_module.lock_of(tmp_path / "mine", "wandb"):  # a training sends it already
        tracker_module.bring_up_to_date(tmp_path / "mine")
    assert not (tmp_path / "started").exists()
    tracker_module.bring_up_to_date(tmp_path / "mine")
    assert (tmp_path / "started").read_text() == "started\n"


def test_the_report_of_a_tracked_run_imports_what_the_user_gave_and_not_what_the_folder_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``evaluate --imports mine.py`` does not trust the imports of the run, and neither does its report."""
    commands = []
    monkeypatch.setattr(follow_module.subprocess, "run", lambda command, **_: commands.append(command))
    follow_module._make_page(tmp_path, tmp_path / "page.html", ["--imports", "mine"])
    assert commands[0][-2:] == ["--imports", "mine"]
    assert "--trust-imports" not in commands[0]


def test_an_empty_cache_does_not_make_a_tracked_run_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tracker_module.proof_of("wandb", "x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tracker_module.proof_of("wandb", "x") == proof


def test_the_process_of_a_tracker_knows_what_this_one_has_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(user_modules, "_IMPORTED", {"mine": ""})
    monkeypatch.setattr(tracker_module.subprocess, "Popen", lambda command, **_: started.append(command))
    Tracker("trackio", tmp_path)
    assert started[0][-5:] == ["jaxpg.run.trackers.follow", "trackio", str(tmp_path), "--imports", "mine"]
