"""What a person sees: lines that a script can read, and a live display on a terminal."""

import io
import re
import sys

import pytest
from rich.console import Console
from rich.text import Text

from jaxpg.run import progress_display as progress
from jaxpg.run.progress_display import LiveProgress, PlainProgress, make_display


def record(iteration: int, mean: float | None = None) -> dict:
    return {
        "iteration": iteration,
        "agent_steps": iteration * 2048,
        "frames": iteration * 8192,
        "episodes": 5,
        "wall_seconds": 1.2345,
        "agent_steps_per_second": 4567.8,
        "return_mean_100": mean,
        "policy_loss": 0.1,
    }


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys) -> list[dict[str, str]]:
    return [dict(pair.split("=") for pair in line.split(" ")) for line in capsys.readouterr().out.splitlines()]


def test_a_plain_line_is_key_value_pairs(clock, capsys):
    PlainProgress().write(record(3, mean=-20.456), [])
    assert lines(capsys) == [
        {
            "iteration": "3",
            "agent_steps": "6144",
            "episodes": "5",
            "wall_seconds": "1.23",
            "agent_steps_per_second": "4568",
            "return_mean_100": "-20.46",
        }
    ]


def test_before_the_first_game_the_mean_return_is_a_dash(clock, capsys):
    PlainProgress().write(record(1), [])
    assert lines(capsys)[0]["return_mean_100"] == "-"


def test_search_and_evolution_say_where_they_stand(clock, capsys):
    said = {**record(1), "scored": 0.5, "generation": 3}
    PlainProgress(stage := ("generation", "scored")).write(said, [])
    (line,) = lines(capsys)
    assert (line["generation"], line["scored"]) == ("3", "0.50")
    screen = io.StringIO()
    live = LiveProgress(Console(file=screen, force_terminal=True, width=200), 1_000_000, 0, stage)
    live.write(said, [])
    live.close()
    assert ", generation 3, scored 0.50" in screen.getvalue()


def test_plain_lines_are_ten_seconds_apart_besides_the_first_and_the_last(clock, capsys):
    plain = PlainProgress()
    for iteration, seconds in enumerate([0.0, 3.0, 9.9, 10.0, 12.0, 19.9, 20.5, 21.0], start=1):
        clock[0] = 1000.0 + seconds
        plain.write(record(iteration), [])
    plain.close()
    assert [line["iteration"] for line in lines(capsys)] == ["1", "4", "7", "8"]


def test_the_last_plain_line_is_not_said_twice(clock, capsys):
    plain = PlainProgress()
    plain.write(record(1), [])
    plain.close()
    plain.close()
    assert len(lines(capsys)) == 1
    PlainProgress().close()
    assert lines(capsys) == []


def _live(budget: int, done: int, said: dict | None) -> str:
    """The last line of a display of 80 columns."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, legacy_windows=False)
    live = LiveProgress(console, budget, done, ("generation", "scored"))
    if said:
        live.write(said, [])
    live.close()
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is given back
    return Text.from_ansi(screen.getvalue()).plain.rstrip().splitlines()[-1]


@pytest.mark.parametrize("stage", [{}, {"scored": 0.5, "generation": 3}])
def test_the_live_display_fits_into_80_columns_and_begins_with_the_time_left(stage):
    said = {**record(1_000_000, mean=-12345.678), "agent_steps_per_second": 123_456.0, **stage}
    line = _live(20_000_000_000, 0, said)
    assert len(line) <= 80
    assert re.match(r"\S+ left ", line)
    for part in (
        "10 % of 20B steps",
        f"return -12346{'' if stage else ' of 5'} ",
        "123456/s",
        *(["generation 3"] if stage else []),
    ):
        assert part in line


def test_the_live_display_says_over_how_many_games_its_mean_is_while_they_are_few():
    for games, shown in ((5, "return 7.00 of 5 "), (99, "return 7.00 of 99 "), (100, "return 7.00 4568/s")):
        assert shown in _live(10**6, 0, {**record(1, mean=7.0), "episodes": games})
    assert "return - 4568/s" in _live(10**6, 0, record(1))


def test_the_live_display_of_a_resumed_run_starts_where_it_stood():
    line = _live(1_000_000, 500_000, None)
    assert " 50 % of 1M steps return - " in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_display_is_live_exactly_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    live = make_display(100, 0, bar=True)
    live.close()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    plain = make_display(100, 0, bar=True)
    assert (type(live), type(plain)) == (LiveProgress, PlainProgress)
