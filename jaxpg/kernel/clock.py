"""Measures where the time of a rollout goes."""

import time
from typing import NamedTuple


class Seconds(NamedTuple):
    """Wall-clock seconds of one rollout by phase."""

    emulate: float  # waiting for emulators
    act: float  # choosing actions, including uploads and downloads


class Clock:
    """Adds up the time between laps for each phase."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(Seconds._fields, 0.0)
        self._last = time.perf_counter()

    @property
    def seconds(self) -> Seconds:
        return Seconds(**self._seconds)

    def begin(self) -> None:
        """Starts a new lap; the time since the last lap counts for no phase."""
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Adds the time since the last lap to ``phase``."""
        now = time.perf_counter()
        self._seconds[phase] += now - self._last
        self._last = now

    def lap_like(self, sample: Seconds) -> None:
        """Divides the time since the last lap among the phases in the proportions of ``sample``, whose sum is not 0."""
        now = time.perf_counter()
        for phase, seconds in sample._asdict().items():
            self._seconds[phase] += (now - self._last) * seconds / sum(sample)
        self._last = now
