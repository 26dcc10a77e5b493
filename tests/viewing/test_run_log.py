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
