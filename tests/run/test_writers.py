"""What a run writes: JSON lines, games as CSV, TensorBoard files; and what a resumed run cuts off."""

import csv
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxpg.machine.durable_files import write_json
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.run_writers import RunWriters
from jaxpg.run.writers import WRITERS, EpisodeRow, EpisodesCsv, JsonLines, TensorBoard


def record(iteration: int, **more) -> dict:
    return {"iteration": iteration, "agent_steps": iteration * 100, "return_mean_100": None, "loss": 0.1, **more}


def game(agent_steps: int, episode_return: float = 1.0) -> EpisodeRow:
    return EpisodeRow(agent_steps, 0.5, lane=3, candidate=0, episode_return=episode_return, length_agent_steps=7)


def write_iterations(writer, iterations: range) -> None:
    for i in iterations:
        writer.write(record(i), [game(i * 100 - 50), game(i * 100)])
    writer.close()


def events(folder: Path) -> list[Event]:
    """Every event of a folder, read record by record: length, its checksum, the event, its checksum."""
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    return [(v.tag, e.step, round(v.simple_value, 5)) for e in events(folder) for v in e.summary.value]


def test_every_iteration_is_one_json_object(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_iterations(JsonLines(path, 0), range(1, 4))
    lines = path.read_text().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [record(1), record(2), record(3)]
    assert '"return_mean_100": null' in lines[0]


def test_every_game_is_one_line_under_the_header(tmp_path):
    path = tmp_path / "episodes.csv"
    writer = EpisodesCsv(path, 0)
    writer.write(record(1), [game(96, -21.0), game(128, 3.5)])
    writer.write(record(2), [])
    writer.close()
    assert path.read_text() == (
        "agent_steps,wall_seconds,lane,candidate,return,length_agent_steps\n96,0.5,3,0,-21.0,7\n128,0.5,3,0,3.5,7\n"
    )


@pytest.mark.parametrize(("kind", "name"), [(JsonLines, "metrics.jsonl"), (EpisodesCsv, "episodes.csv")])
def test_lines_can_be_read_while_the_run_goes_on(kind, name, tmp_path):
    writer = kind(tmp_path / name, 0)
    writer.write(record(1), [game(100)])
    content = (tmp_path / name).read_text()
    writer.close()
    assert content.endswith("\n")
    assert content == (tmp_path / name).read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_refused(value, tmp_path):
    writer = JsonLines(tmp_path / "metrics.jsonl", 0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.write(record(1, loss=value), [])
    writer.close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "summary.json", {"loss": value})
    assert not (tmp_path / "summary.json").exists()


def test_a_resumed_run_writes_iterations_after_the_checkpoint_again_and_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_iterations(JsonLines(path, 0), range(1, 13))
    write_iterations(JsonLines(path, 9), range(10, 13))
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == list(range(1, 13))


def test_a_resumed_run_writes_games_after_the_checkpoint_again_and_once(tmp_path):
    path = tmp_path / "episodes.csv"
    write_iterations(EpisodesCsv(path, 0), range(1, 13))
    write_iterations(EpisodesCsv(path, 900), range(10, 13))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["agent_steps"]) for row in rows] == list(range(50, 1250, 50))


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_last_line_that_was_cut_off_is_dropped(cut, tmp_path):
    """Even one that lacks only its line feed: its last digits may be missing."""
    jsonl, episodes = tmp_path / "metrics.jsonl", tmp_path / "episodes.csv"
    write_iterations(JsonLines(jsonl, 0), range(1, 4))
    write_iterations(EpisodesCsv(episodes, 0), range(1, 4))
    for path in (jsonl, episodes):
        path.write_bytes(path.read_bytes()[:-cut])
    JsonLines(jsonl, 3).close()
    EpisodesCsv(episodes, 300).close()
    assert [json.loads(line)["iteration"] for line in jsonl.read_text().splitlines()] == [1, 2]
    kept = [int(line.split(",")[0]) for line in episodes.read_text().splitlines()[1:]]
    assert kept == [50, 100, 150, 200, 250][: 5 if cut < 20 else len(kept)]
    assert episodes.read_text().endswith("\n")


@pytest.mark.parametrize(
    "content", ["", "agent_st", "agent_steps,wall_seconds,lane,candidate,return,length_agent_steps"]
)
def test_a_header_that_was_cut_off_is_written_anew(content, tmp_path):
    path = tmp_path / "episodes.csv"
    path.write_text(content)
    EpisodesCsv(path, 0).close()
    assert path.read_text() == "agent_steps,wall_seconds,lane,candidate,return,length_agent_steps\n"


def test_tensorboard_gets_every_number_over_agent_steps(tmp_path):
    writer = TensorBoard(tmp_path, 0)
    writer.write(record(1), [game(60, -21.0)])
    writer.write(record(2, return_mean_100=-20.5), [])
    writer.close()
    assert scalars(tmp_path) == [
        ("iteration", 100, 1.0),
        ("loss", 100, 0.1),
        ("episode/return", 60, -21.0),
        ("iteration", 200, 2.0),
        ("return_mean_100", 200, -20.5),
        ("loss", 200, 0.1),
    ]


def test_a_checkpoint_is_not_ahead_of_what_any_writer_keeps_in_memory(tmp_path):
    class Keeping:
        written, on_disk = 0, 0

        def write(self, record, episodes):
            self.written += 1

        def sync(self):
            self.on_disk = self.written
            if self.written == 2:
                raise OSError("the disk of one's own is full")

        def close(self):
            pass

    keeping, warnings = Keeping(), []
    others = [TensorBoard(tmp_path / "tensorboard", 0), keeping]
    writers = RunWriters(tmp_path, RunProgress(), others, warnings.append)
    for number in (1, 2):
        writers.write(record(number), [])
        writers.sync()
        assert [step for name, step, _ in scalars(tmp_path / "tensorboard") if name == "loss"][-1] == 100 * number
        assert keeping.on_disk == number
    assert warnings == ["the disk of one's own is full; the training goes on"]
    writers.close()


def test_tensorboard_shows_the_settings_of_a_new_run(tmp_path):
    (tmp_path / "config.yaml").write_text("run:\n  seed: 3\n")
    for agent_steps in (0, 900):
        WRITERS["tensorboard"](tmp_path, agent_steps).close()
    [shown] = [value for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    assert (shown.tag, shown.metadata.plugin_data.plugin_name) == ("settings/text_summary", "text")
    assert shown.tensor.string_val == [b"    run:\n      seed: 3\n"]


def test_tensorboard_is_told_where_a_resumed_run_starts(tmp_path):
    TensorBoard(tmp_path, 900).close()
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [901]  # TensorBoard drops what older files hold from this step on


def test_tensorboard_reads_in_order_although_the_clock_jumps_back(tmp_path, monkeypatch):
    (tmp_path / "events.out.tfevents.1700000000.host.0").touch()  # of an earlier version
    for time, number in ((1_800_000_000.0, 1), (1_600_000_000.0, 2), (1_600_000_000.0, 3)):
        monkeypatch.setattr("time.time", lambda time=time: time)
        writer = TensorBoard(tmp_path, 100 * number - 100)
        writer.write(record(number), [])
        writer.close()
    assert [event.step for event in events(tmp_path) if event.HasField("session_log")] == [1, 101, 201]


@pytest.mark.parametrize(("kind", "name"), [(JsonLines, "metrics.jsonl"), (EpisodesCsv, "episodes.csv")])
def test_what_a_full_disk_does_not_take_is_written_later_and_never_half(kind, name, tmp_path):
    """The kernel's limit on a file's size stands for the full disk: it too takes a part of a write."""
    path = tmp_path / name
    writer = kind(path, 0)
    writer.write(record(1), [game(60, -21.0)])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        for number in (2, 3):
            with pytest.raises(OSError, match=f"{name} cannot be written: File too large"):
                writer.write(record(number), [game(60 * number, -20.0)])
            assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.write(record(4), [game(240, -19.0)])
    writer.close()
    whole = kind(tmp_path / "whole", 0)
    for number, total in ((1, -21.0), (2, -20.0), (3, -20.0), (4, -19.0)):
        whole.write(record(number), [game(60 * number, total)])
    whole.close()
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_tensorboard_ends_on_a_full_disk_without_holding_up_the_training(tmp_path):
    writer = TensorBoard(tmp_path, 0)
    writer._events._py_recordio_writer._writer.close()

    def full(data):
        raise OSError(28, "No space left on device")

    writer._events._py_recordio_writer.write = full
    with pytest.raises(OSError, match="tensorboard/ cannot be written: No space left on device"):
        writer.write(record(1), [])
    for number in range(100):
        writer.write(record(number), [])
    writer.close()


class Failing:
    """A writer of a user's own, whose methods are wrong."""

    def write(self, record):
        pass

    def close(self):
        raise KeyError("closed already")


def test_a_failing_writer_of_ones_own_is_named_with_its_place_and_the_others_write(tmp_path):
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    write, close = (
        next(number for number, line in enumerate(lines, 1) if line.strip().startswith(words))
        for words in ("def write(self, record):", "raise KeyError(")
    )
    said = []
    writers = RunWriters(tmp_path, RunProgress(), [Failing()], said.append)
    writers.write(record(1), [])
    assert writers.close() is None
    assert said == [
        f"Failing: {__file__}:{write}: Failing.write takes (self, record), but must take (self, record, episodes); the "
        "training goes on, and what is missing is written later",
        f"Failing: {__file__}:{close}: KeyError: 'closed already'; it could not be closed",
    ]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_pytorch_stays_where_it_is(tmp_path: Path) -> None:
    """tensorboardX imports PyTorch where it is installed: a stand-in says whether anybody asked for it."""
    (tmp_path / "torch.py").write_text("print('imported')\n")
    code = "import jaxpg.run.writers, sys; assert 'torch' not in sys.modules; import torch"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\n", "")
