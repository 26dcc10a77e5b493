"""What is said of work that takes long: what is waited for, and how far it is."""

import io
import re
import sys
import time

import pytest

from jaxpg.machine import waiting


def test_what_is_waited_for_is_said_once_it_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(waiting, "SECONDS_UNTIL_SAID", 0.05)
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_LINES", 0.1)
    with waiting.said_while_waiting("waiting for the bus"):
        pass
    assert capsys.readouterr().out == ""
    with waiting.said_while_waiting("waiting for the bus"):
        time.sleep(0.5)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "jaxpg: waiting for the bus"
    assert re.fullmatch(r"jaxpg: waiting for the bus, for \d+ s", second)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_counting_up_says_how_far_the_work_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("jaxpg.machine.waiting.SECONDS_BETWEEN_LINES", 0.0)
    seconds = iter([0, 3, 3, 43, 43, 0, 0, 0])
    monkeypatch.setattr("jaxpg.machine.waiting.time.monotonic", lambda: next(seconds))
    with waiting.count_up("games", 100) as ended:
        ended(3)
        ended(40)
    with waiting.count_up("agent_steps") as stepped:
        stepped(64)
    assert capsys.readouterr().out.splitlines() == [
        *("games=3 of=100 left_seconds=97", "games=43 of=100 left_seconds=57", "agent_steps=64")
    ]


def test_counting_up_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with waiting.count_up("games", 100) as ended:
        ended(43)
    assert "43/100" in terminal.getvalue()
