"""The tables of a report."""

from pathlib import Path

from jaxpg.viewing.run_log import read_run
from jaxpg.viewing.tables import checkpoints_table, runs_table
from jaxpg.viewing.views import number_runs


def test_a_mean_of_few_games_says_how_many_they_are(uninterrupted: Path) -> None:
    runs = number_runs([read_run(str(uninterrupted))])
    (row,) = runs_table(runs).rows
    games = int(row[4])
    assert 0 < games < 100
    assert row[7].endswith(f" of {games}")
    table = checkpoints_table(runs)
    assert table is not None
    assert table.rows[-1][3] == row[7]
    runs[0].log.records[-1]["episodes"] = 100
    assert " of " not in runs_table(runs).rows[0][7]
