"""Who is named where signs of life are missing."""

import time

import pytest

from jaxpg.parallel.processes import Presence


@pytest.mark.parametrize(
    ("process", "answered", "heard", "missing"),
    [
        (1, 1.0, {1: 1.0, 2: 1.5}, []),
        (1, 1.0, {1: 1.0, 2: 5.5}, ["two"]),
        (1, 4.5, {1: 4.5, 2: 6.0}, ["zero"]),
        (1, 3.5, {1: 3.5, 2: 4.5}, []),  # process 0 is gone, and what it would have said of the others is not known
        (0, 1.0, {1: 1.0, 2: 5.5}, ["two"]),
        (0, 4.5, {1: 4.5, 2: 6.0}, []),  # process 0 has no time to answer itself, and lives
    ],
)
def test_nobody_is_silent_for_longer_than_at_the_last_answer(process, answered, heard, missing) -> None:
    """Seconds since process 0 answered, and since the others were heard."""
    now = time.monotonic()
    presence = Presence.__new__(Presence)
    presence._process = process
    presence._names = {0: "zero", 1: "one", 2: "two"}
    presence._answered_at = now - answered
    presence._heard_at = {0: now - answered} | {process: now - seconds for process, seconds in heard.items()}
    assert presence._missing(4.0) == missing
