"""Where a rollout's time goes."""

import time
from typing import NamedTuple


class Seconds(NamedTuple):
    """Wall-clock seconds of one rollout by phase."""

    emulate: float  # waiting for emulators
    act: float  # choosing actions, uploads and fetches included


class Clock:
    """Adds up the time between laps by phase."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(Seconds._fields, 0.0)
        self._last = time.perf_counter()

    @property
    def seconds(self) -> Seconds:
        return Seconds(**self._seconds)

    def begin(self) -> None:
        """What was since the last lap belongs to no phase."""
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What was since the last lap belongs to this phase."""
        now = time.perf_counter()
        self._seconds[phase] += now - self._last
        self._last = now

    def lap_like(self, sample: Seconds) -> None:
        """What was since the last lap is divided among the phases as ``sample`` is, which has more than nothing."""
        now = time.perf_counter()
        for phase, seconds in sample._asdict().items():
            self._seconds[phase] += (now - self._last) * seconds / sum(sample)
        self._last = now
