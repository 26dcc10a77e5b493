"""What SIGINT (Ctrl-C), SIGTERM and SIGHUP do to a command, whatever its main thread is doing."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any

from jaxpg.machine.console import say

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_END = 0.7
"""What the main thread has to end by itself; compiled code that it stands in may not return for minutes."""
SECONDS_TO_RAISE_AGAIN = 0.05
SECONDS_UNTIL_SAID = 1.0
"""After which a command that saves first says that it has heard."""


class Interrupted(KeyboardInterrupt):
    """A signal ends the command at once; ``number`` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """Signals that ask a command to end.

    At first a signal raises :class:`Interrupted` in the main thread. After :meth:`note_signals` the first one is noted
    in ``signal`` instead, so that the command can finish what it does and save; the second one ends it at once.
    SIGHUP is no second one, because a terminal that goes sends several. It stays ignored where ``nohup`` ignores it.

    No handlers are set outside the main thread, where Python has none.

    Args:
      ends_process: whether the process ends with 128 plus the signal's number where the main thread does not answer,
        because it stands in compiled code or because a library took the exception for one of its own.
    """

    def __init__(self, *, ends_process: bool = False):
        self.signal: int | None = None
        self._is_main = threading.current_thread() is threading.main_thread()
        self._ends_process = ends_process and self._is_main
        self._notes, self._keeps = False, False
        self._timers: list[threading.Timer] = []
        self._again = 0  # signals that this object sent itself
        self._previous = {}
        for number in SIGNALS if self._is_main else ():
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        self._previous_hook, sys.unraisablehook = sys.unraisablehook, self._raise_again
        if self._ends_process:
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._previous_writer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._watcher = threading.Thread(target=self._watch, args=(reader,), daemon=True)
            self._watcher.start()

    def note_signals(self) -> None:
        """From now on the first signal is noted. The process ends nevertheless where the next seconds pass without
        :meth:`keep`.
        """
        self._notes = True

    def keep(self) -> None:
        """From now on there is something to save, and the first signal leaves time for it."""
        self._keeps = True
        self._cancel_timers()
        if self.signal is not None:
            self._say_later(self.signal)

    @property
    def keeps(self) -> bool:
        """Whether :meth:`keep` was called."""
        return self._keeps

    def restore(self) -> None:
        """Gives the signals their former meaning."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        sys.unraisablehook = self._previous_hook
        if self._ends_process:
            signal.set_wakeup_fd(self._previous_writer)
            os.write(self._writer, b"\0")
            self._watcher.join()
            os.close(self._writer)
            self._ends_process = False
        self._cancel_timers()

    @contextmanager
    def left_to_the_system(self) -> Iterator[None]:
        """For a call that keeps Python's lock, so that neither a handler nor a thread can run.

        Where nothing is to be saved, Linux ends the process, and a shell says 128 plus the signal's number.
        """
        if not self._ends_process or self._keeps or threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in self._previous:
            signal.signal(number, signal.SIG_DFL)
        try:
            yield
        finally:
            for number in self._previous:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._notes:
            raise Interrupted(number)
        if self.signal is None:
            self.signal = number
        elif number != signal.SIGHUP:
            raise Interrupted(number)

    def _raise_again(self, details: Any) -> None:
        """Python drops an exception in a callback, such as JAX's of the garbage collector; the signal comes again."""
        if not isinstance(details.exc_value, Interrupted):
            self._previous_hook(details)
            return
        self._again += 1
        main, number = threading.main_thread().ident, details.exc_value.number
        assert main is not None
        self._later(SECONDS_TO_RAISE_AGAIN, partial(signal.pthread_kill, main), number)

    def _watch(self, reader: int) -> None:
        """The system writes the number of each signal into the pipe, even while the main thread stands still."""
        is_first = True
        while number := os.read(reader, 1)[0]:
            if self._again:
                self._again -= 1
                continue
            if number not in self._previous or (number == signal.SIGHUP and not is_first):
                continue
            if not is_first:
                end_at_once(number)
            elif self._keeps:
                self._say_later(number)
            else:
                self._later(SECONDS_TO_END, self._end_unless_kept, number)
            is_first = False
        os.close(reader)

    def _say_later(self, number: int) -> None:
        name = signal.Signals(number).name
        words = f"jaxpg: {name}: the run is saved after this iteration; a second signal ends it at once"
        self._later(SECONDS_UNTIL_SAID, say, words)

    def _later(self, seconds: float, action: Callable[[Any], None], argument: int | str) -> None:
        timer = threading.Timer(seconds, action, (argument,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _end_unless_kept(self, number: int) -> None:
        if not self._keeps:
            end_at_once(number)


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """Ends the process with a sentence, as a shell numbers it; a reader that does not read holds nobody up."""
    speaker = threading.Thread(target=say, args=("jaxpg: interrupted",), kwargs={"error": True}, daemon=True)
    speaker.start()
    speaker.join(0.1)
    os._exit(128 + number)


_CURRENT: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def signals_heard(*, ends_process: bool = False) -> Iterator[Stop]:
    """The :class:`Stop` of a command; within another one's block it is that one."""
    current = _CURRENT.get()
    if current is not None:
        yield current
        return
    stop = Stop(ends_process=ends_process)
    token = _CURRENT.set(stop)
    try:
        yield stop
    finally:
        _CURRENT.reset(token)
        stop.restore()


@contextmanager
def signals_left_to_the_system() -> Iterator[None]:
    """See :meth:`Stop.left_to_the_system`; nothing changes outside a command."""
    stop = _CURRENT.get()
    if stop is None:
        yield
        return
    with stop.left_to_the_system():
        yield
