"""A run of any length is read into bounded memory."""

import json
import tracemalloc
from pathlib import Path

import pytest

from jaxpg.run.writers import JsonLines
from jaxpg.viewing import run_log as runlog
from jaxpg.viewing.run_log import read_run
from jaxpg.viewing.views import phase_microseconds
from tests.report_runs import made_run


def test_of_many_lines_some_are_kept_evenly_and_the_last_one_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_run(tmp_path / "run", returns=[float(i) for i in range(41)])
    whole = read_run(str(folder))
    monkeypatch.setattr(runlog, "MAX_RECORDS", 10)
    monkeypatch.setattr(runlog, "MAX_GAMES", 20)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("[" * 100_000 + "\n" + '{"iteration": 43')
    log = read_run(str(folder))
    assert [record["iteration"] for record in log.records] == [1, 9, 17, 25, 33, 41, 42]
    assert [game.episode_return for game in log.games] == [*range(0, 41, 4)]
    assert {"metrics.jsonl: one line in 8 is shown", "episodes.csv: one line in 4 is shown"} <= set(log.remarks)
    damaged = [remark for remark in log.remarks if "damaged" in remark]
    assert damaged in (["metrics.jsonl: 1 damaged line is left out"], ["metrics.jsonl: 2 damaged lines are left out"])
    phases, of_all = phase_microseconds(log.records), phase_microseconds(whole.records)
    assert phases == pytest.approx(of_all, rel=0.25), "each kept iteration stands for those around it"


def test_a_resumed_run_does_not_hold_its_whole_metrics_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"iteration": i, "note": "x" * 1000}) for i in range(5000)]
    path.write_text("\n".join(lines) + "\n")
    tracemalloc.start()
    JsonLines(path, 4000).close()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 500_000 < path.stat().st_size
    assert path.read_text().splitlines() == lines[:4001]


LINE = {"iteration": 43, "agent_steps": 43_000, "wall_seconds": 43.0, "agent_steps_per_second": 1.0}
ODD_LINES = [
    {**LINE, "agent_steps": 10**400},
    {**LINE, "agent_steps": -1},
    {**LINE, "wall_seconds": 1e308},
    {**LINE, "\x1b[31m": 1},
    {**LINE, **{f"metric_{i}": i for i in range(1000)}},
]


@pytest.mark.parametrize("odd", ODD_LINES)
def test_lines_that_no_run_writes_are_left_out(odd: dict, tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", returns=[1.0, 2.0])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(odd) + "\n")
    log = read_run(str(folder))
    assert log.records[-1]["iteration"] == 3
    assert "metrics.jsonl: 1 damaged line is left out" in log.remarks


@pytest.mark.parametrize("game", ["9" * 400 + ",1,0,0,1.0,9", "5,1,0,0,1e308,9", "-5,1,0,0,1.0,9"])
def test_games_that_no_run_plays_are_left_out(game: str, tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", returns=[1.0, 2.0])
    with (folder / "episodes.csv").open("a") as file:
        file.write(game + "\n")
    log = read_run(str(folder))
    assert [one.episode_return for one in log.games] == [1.0, 2.0]


def test_videos_behind_a_link_and_huge_ones_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_run(tmp_path / "run", returns=[1.0])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "private.mp4").write_bytes(b"12345")
    (folder / "videos").symlink_to(tmp_path / "mine")
    log = read_run(str(folder))
    assert log.videos == []
    assert "videos is a link and left out" in log.remarks
    (folder / "videos").unlink()
    (tmp_path / "mine").rename(folder / "videos")
    assert [video.path.name for video in read_run(str(folder)).videos] == ["private.mp4"]
    monkeypatch.setattr(runlog, "MAX_VIDEO_BYTES", 4)
    assert read_run(str(folder)).videos == []
