"""Child processes on this machine: the parent starts them, passes on their output and ends them together."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
from types import FrameType
from typing import IO

from jaxpg.core.errors import UserError
from jaxpg.machine.cores import on_cores
from jaxpg.machine.parent import end_with_parent, find_prctl

POLL_SECONDS = 0.1
"""Longest time until the end of a process is noticed."""
READ_BYTES = 65_536
STDOUT, STDERR = 1, 2


def exit_code(codes: Sequence[int], forwarded: Sequence[int]) -> int:
    """One exit code for all processes.

    It is the exit code of the first process that failed. A process that a forwarded signal ended did as it was told,
    so the exit code of any other failure has precedence.

    Args:
      codes: the exit code of each process, in the order in which the processes ended.
      forwarded: the numbers of the signals that were forwarded to the processes.

    >>> exit_code([0, 143, 1], []), exit_code([143, 1], [15]), exit_code([0, 143], [15]), exit_code([0, 0], [15])
    (143, 1, 143, 0)
    """
    failures = [code for code in codes if code]
    untold = [code for code in failures if code - 128 not in forwarded]
    return (untold or failures or [0])[0]


def free_port() -> int:
    """A TCP port that is free now. If another program takes the port first, process 0 fails and says so."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Lines:
    """Reads one stream of a process in whole lines. A carriage return ends a line, too."""

    def __init__(self, source: IO[bytes]):
        os.set_blocking(source.fileno(), False)
        self.source = source
        self._rest = b""

    def read(self) -> list[bytes] | None:
        """The complete lines that have arrived, or None at the end of the stream."""
        said = self._take()
        if said is None:
            return []
        pieces = (self._rest + said).splitlines(keepends=True)
        self._rest = pieces.pop() if pieces and not pieces[-1].endswith(b"\n") else b""
        return [piece.rstrip(b"\r\n") for piece in pieces] if said else None

    def close(self) -> list[bytes]:
        """Closes the stream and returns the remaining lines, even an unfinished one.

        Another process may still write to the stream; its lines are lost.
        """
        while said := self._take():
            self._rest += said
        self.source.close()
        return self._rest.splitlines()

    def _take(self) -> bytes | None:
        """The bytes that have arrived. Empty at the end of the stream, None if nothing has arrived yet."""
        try:
            return os.read(self.source.fileno(), READ_BYTES)
        except BlockingIOError:
            return None


@dataclass
class Child:
    """A process and its open streams. Each stream is mapped to the file descriptor that its lines are written to."""

    index: int
    process: subprocess.Popen[bytes]
    streams: dict[Lines, int]


class Children:
    """Child processes that are started, heard and ended together.

    Each child has its own process group, so that Ctrl-C reaches the children only through this process. If this process
    is killed, Linux sends SIGTERM to each child. On other systems a child ends at its next line of output, which nobody
    reads any more. This process must have a single thread, because Python code runs between fork and exec.

    Args:
      timeout_seconds: time that the other children have to end after the first failure, and again after SIGTERM.
    """

    def __init__(self, timeout_seconds: float):
        self._timeout_seconds = timeout_seconds
        self._running: list[Child] = []
        self._codes: list[int] = []  # exit codes of the children that have ended, in the order of their ends
        self._is_complete = False
        self._waiting: list[int] = []  # signals that still have to be forwarded
        self._forwarded: list[int] = []
        self._own: list[int] = []  # signals that this process sent because of the timeout
        self._steps: list[tuple[float, signal.Signals]] = []  # when to send which signal to children that do not end
        self._unread: set[int] = set()  # file descriptors whose reader is gone
        self._selector = DefaultSelector()

    def start(
        self, index: int, command: Sequence[str], cores: Sequence[int], variables: Mapping[str, str] | None = None
    ) -> None:
        """Starts a child that may use the given cores, with some more variables in its environment.

        Raises:
          UserError: the system cannot start the process.
        """
        try:
            with on_cores(cores):
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    # unbuffered, so that a killed process's last lines arrive, too
                    env={**os.environ, **(variables or {}), "PYTHONUNBUFFERED": "1"},
                    process_group=0,
                    preexec_fn=_end_with_parent(),  # noqa: PLW1509  # this process has one thread
                )
        except OSError as error:
            raise UserError(f"process {index} cannot be started: {error.strerror}") from error
        assert process.stdout is not None
        assert process.stderr is not None
        streams = {Lines(process.stdout): STDOUT, Lines(process.stderr): STDERR}
        child = Child(index, process, streams)
        self._running.append(child)
        for lines in streams:
            self._selector.register(lines.source, EVENT_READ, (child, lines))

    def forward(self, number: int, frame: FrameType | None = None) -> None:
        """Signal handler that forwards the signal to every child, as soon as all children have started."""
        self._waiting.append(number)
        if self._is_complete:
            self._deliver()

    def watch(self) -> int:
        """Passes on the output of all children until all have ended, and returns one exit code for all."""
        self._is_complete = True
        self._deliver()
        while self._running:
            for key, _ in self._selector.select(POLL_SECONDS):
                child, lines = key.data
                self._hear(child, lines)
            for child in [child for child in self._running if child.process.poll() is not None]:
                self._note_end(child)
            self._end_the_late()
        return exit_code(self._codes, self._forwarded)

    def close(self) -> None:
        """Kills the children that still run. After :meth:`watch` there are none."""
        for child in self._running:
            child.process.kill()
            child.process.wait()
            for lines in child.streams:
                lines.source.close()
        self._selector.close()

    def _deliver(self) -> None:
        while self._waiting:  # each signal is taken once, even if the handler interrupts this loop
            number = self._waiting.pop(0)
            self._forwarded.append(number)
            for child in self._running:
                child.process.send_signal(number)

    def _hear(self, child: Child, lines: Lines) -> None:
        said = lines.read()
        if said is None:
            self._stop_hearing(child, lines)
        else:
            self._pass_on(child, lines, said)

    def _stop_hearing(self, child: Child, lines: Lines) -> None:
        self._selector.unregister(lines.source)
        self._pass_on(child, lines, lines.close())
        del child.streams[lines]

    def _pass_on(self, child: Child, lines: Lines, said: Sequence[bytes]) -> None:
        self._write(child.streams[lines], b"".join(b"[%d] %s\n" % (child.index, line) for line in said))

    def _note_end(self, child: Child) -> None:
        for lines in list(child.streams):
            self._stop_hearing(child, lines)
        self._running.remove(child)
        returned = child.process.returncode
        code = returned if returned >= 0 else 128 - returned
        is_first = code != 0 and not any(self._codes)
        if is_first:
            now = time.monotonic()
            self._steps = [
                (now + self._timeout_seconds, signal.SIGTERM),
                (now + 2 * self._timeout_seconds, signal.SIGKILL),
            ]
        is_repeated = code in self._codes and returned >= 0  # a user's mistake ends all children with the same code
        if code and not is_repeated and code - 128 not in (*self._forwarded, *self._own):
            how = f"by {_name(-returned)}" if returned < 0 else f"with exit code {code}"
            others = "; the others end by themselves" if is_first and self._running else ""
            self._say(f"process {child.index} ended {how}{others}")
        self._codes.append(code)

    def _end_the_late(self) -> None:
        while self._running and self._steps and self._steps[0][0] <= time.monotonic():
            _, number = self._steps.pop(0)
            late = ", ".join(str(child.index) for child in self._running)
            seconds = self._timeout_seconds * (1 if number == signal.SIGTERM else 2)
            self._say(f"process {late} still running after {seconds:g} s; {number.name} is sent")
            self._own.append(number)
            for child in self._running:
                child.process.send_signal(number)

    def _say(self, sentence: str) -> None:
        self._write(STDERR, f"jaxpg: {sentence}\n".encode())

    def _write(self, target: int, text: bytes) -> None:
        """Writes at once. If the disk is full, the words are lost and the training continues.

        If the reader is gone, the children get SIGTERM.
        """
        if target in self._unread:
            return
        try:
            while text:
                text = text[os.write(target, text) :]
        except BrokenPipeError:
            self._unread.add(target)
            self.forward(signal.SIGTERM)
        except OSError:
            pass


def _name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _end_with_parent() -> Callable[[], None]:
    """Function that a child calls between fork and exec, so that it gets SIGTERM when this process ends."""
    prctl, parent = find_prctl(), os.getpid()
    return lambda: end_with_parent(parent, prctl=prctl)
