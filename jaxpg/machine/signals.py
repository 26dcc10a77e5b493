"""Handles SIGINT (Ctrl-C), SIGTERM and SIGHUP for a command, whatever the command's main thread is doing."""

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
"""Time that the main thread has to end by itself. Compiled code may keep the main thread busy for minutes."""
SECONDS_TO_RAISE_AGAIN = 0.05
SECONDS_UNTIL_SAID = 1.0
"""Time after which a command that saves first tells the user that it has received the signal."""


class Interrupted(KeyboardInterrupt):
    """Raised when a signal ends the command at once. ``number`` is the signal's number."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """Signals that ask a command to end.

    At first a signal raises :class:`Interrupted` in the main thread. After :meth:`note_signals` the first signal is
    stored in ``signal`` instead, so that the command can finish its work and save. The second signal ends the command
    at once. SIGHUP does not count as a second signal, because a terminal that closes sends several. If ``nohup``
    ignores SIGHUP, it stays ignored.

    Outside the main thread no handlers are set, because Python allows none there.

    Args:
      ends_process: whether the process ends with 128 plus the signal's number if the main thread does not react. The
        main thread may be busy in compiled code, or a library may have caught the exception as one of its own.
    """

    def __init__(self, *, ends_process: bool = False):
        self.signal: int | None = None
        self._is_main = threading.current_thread() is threading.main_thread()
        self._ends_process = ends_process and self._is_main
        self._notes, self._keeps = False, False
        self._timers: list[threading.Timer] = []
        self._again = 0  # number of signals that this object has sent itself
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
        """From now on the first signal is only noted.

        After a signal the process still ends if :meth:`keep` is not called within ``SECONDS_TO_END``.
        """
        self._notes = True

    def keep(self) -> None:
        """From now on there is something to save, and the first signal leaves time to save it."""
        self._keeps = True
        self._cancel_timers()
        if self.signal is not None:
            self._say_later(self.signal)

    @property
    def keeps(self) -> bool:
        """Whether :meth:`keep` was called."""
        return self._keeps

    def restore(self) -> None:
        """Restores the signal handlers from before."""
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
        """Lets a signal end the process directly during a call that holds Python's lock.

        While the lock is held, neither a handler nor another thread can run. If there is nothing to save, Linux ends
        the process on a signal, and a shell reports 128 plus the signal's number. If there is something to save,
        nothing changes.
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
        """Sends the signal again after Python has dropped its exception.

        Python drops an exception that is raised in a callback, such as JAX's callback of the garbage collector.
        """
        if not isinstance(details.exc_value, Interrupted):
            self._previous_hook(details)
            return
        self._again += 1
        main, number = threading.main_thread().ident, details.exc_value.number
        assert main is not None
        self._later(SECONDS_TO_RAISE_AGAIN, partial(signal.pthread_kill, main), number)

    def _watch(self, reader: int) -> None:
        """Reads signals from the pipe and reacts if the main thread does not.

        The system writes the number of each signal into the pipe, even while the main thread is blocked.
        """
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
    """Prints a sentence and ends the process with 128 plus the signal's number.

    A thread prints the sentence, so that a reader that does not read cannot delay the end.
    """
    speaker = threading.Thread(target=say, args=("jaxpg: interrupted",), kwargs={"error": True}, daemon=True)
    speaker.start()
    speaker.join(0.1)
    os._exit(128 + number)


_CURRENT: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def signals_heard(*, ends_process: bool = False) -> Iterator[Stop]:
    """Yields the :class:`Stop` of the command. A nested block yields the :class:`Stop` of the outer block."""
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
def signals_raised_again() -> Iterator[Stop]:
    """Applies ``signals_heard``, and then raises the signal again for the handler of the program that called jaxpg."""
    with signals_heard() as stop:
        yield stop
    if stop.signal is not None:
        signal.raise_signal(stop.signal)


@contextmanager
def signals_left_to_the_system() -> Iterator[None]:
    """Applies :meth:`Stop.left_to_the_system` to the current command. Outside a command nothing changes."""
    stop = _CURRENT.get()
    if stop is None:
        yield
        return
    with stop.left_to_the_system():
        yield
