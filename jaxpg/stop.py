"""Signals that ask a run to end."""

import signal
from types import FrameType


class Stop:
    """Notes SIGTERM and Ctrl-C, so that the loop ends after the iteration; a second one ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.restore()

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
