"""Runs works of several commands each in child processes, a few at a time."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from jaxpg.machine.beginning import PARENT
from jaxpg.machine.command import module_command
from jaxpg.machine.console import say
from jaxpg.machine.cores import core_shares, on_cores, own_cores
from jaxpg.machine.gpus import shares_of_gpus
from jaxpg.machine.signals import Stop

SECONDS_TO_END = 60.0
"""Time that a command has to save and end after SIGTERM, before it gets SIGKILL."""
SECONDS_BETWEEN_LOOKS = 0.2
LAST_BYTES = 10_000
"""How much of a log is read to find its last line."""


class Work(Protocol):
    """Something that takes one command after another until it is done.

    What is done already must be seen on the disk, so that an interrupted work goes on where it stopped.
    """

    @property
    def log(self) -> Path:
        """File to which the output of the commands is appended."""

    def next_command(self) -> list[str] | None:
        """The next command, or None if the work is done."""


@dataclass
class _Running:
    """A work whose command runs."""

    work: Work
    command: list[str]
    slot: int
    process: subprocess.Popen[bytes]
    log_start: int
    """Byte of the log where the output of the command begins."""


@dataclass(frozen=True)
class Ended:
    """A work that is done or has failed."""

    work: Work
    failure: str | None
    """Why it failed: the last line of its log. None where it is done."""
    exit_code: int
    """Exit code of the last command, or minus the number of the signal that ended it. 0 where no command was needed."""


class Processes:
    """Runs works, at most so many at a time, and divides the cores and the GPUs among them.

    Each command has its own process group, so that Ctrl-C reaches only this process, which then ends the commands. If
    this process is killed, Linux sends SIGTERM to every command. All methods must be called from the main thread,
    because Linux takes the end of the starting thread for the end of the parent.

    Args:
      most: how many works run at a time.

    Raises:
      UserError: so many processes cannot share this machine's accelerators.
    """

    def __init__(self, most: int):
        self._cores = core_shares(own_cores(), most)
        self._variables = shares_of_gpus("parallel", most)
        self._free = list(reversed(range(most)))
        self._waiting: deque[Work] = deque()
        self._running: list[_Running] = []

    def add(self, work: Work) -> None:
        """Adds a work. It starts at the next :meth:`poll` at which fewer works than allowed run."""
        self._waiting.append(work)

    @property
    def running(self) -> list[Work]:
        """The works whose commands run now."""
        return [one.work for one in self._running]

    @property
    def works(self) -> list[Work]:
        """The works that run or wait."""
        return [*self.running, *self._waiting]

    @property
    def is_idle(self) -> bool:
        """Whether no work runs or waits."""
        return not (self._running or self._waiting)

    def poll(self) -> list[Ended]:
        """Starts whatever can be started and returns the works that have ended since the last call; never waits."""
        ended = []
        for one in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(one)
            self._free.append(one.slot)
            code = one.process.returncode
            if code:
                ended.append(Ended(one.work, _last_line(one.work.log, one.log_start) or f"exit code {code}", code))
            else:
                ended += self._begin(one.work, one.command)
        while self._waiting and self._free:
            ended += self._begin(self._waiting.popleft(), [])
        return ended

    def end(self, works: Sequence[Work]) -> None:
        """Asks the commands of these works to save and end, and waits for them. Works that wait do not start."""
        self._waiting = deque(work for work in self._waiting if work not in works)
        asked = [one for one in self._running if one.work in works]
        for one in asked:
            one.process.terminate()
        deadline = time.monotonic() + SECONDS_TO_END
        for one in asked:
            try:
                one.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(one.process.pid, signal.SIGKILL)
                one.process.wait()
            self._running.remove(one)
            self._free.append(one.slot)

    def close(self) -> None:
        """Ends all works, as :meth:`end` does."""
        self.end(self.works)

    def _begin(self, work: Work, before: list[str]) -> list[Ended]:
        """Starts the next command of a work; returns the work if it has ended.

        Args:
          work: the work.
          before: the command that succeeded last; empty for none.
        """
        slot = self._free.pop()
        try:
            command = work.next_command()
            if command is None or command == before:
                self._free.append(slot)
                failure = "the command succeeded and left nothing; see its log" if command else None
                return [Ended(work, failure, 0)]
            with work.log.open("ab") as log, on_cores(self._cores[slot]):
                start = log.tell()
                process = _start(command, log, self._variables[slot])
        except OSError as error:
            self._free.append(slot)
            return [Ended(work, f"{error.filename or work.log.parent}: {error.strerror}", 1)]
        self._running.append(_Running(work, command, slot, process, start))
        return []


def _start(command: list[str], log: BinaryIO, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**os.environ, **variables, PARENT: str(os.getpid())},
        process_group=0,
    )


def _last_line(log: Path, start: int) -> str:
    """The last line that a command wrote into its log, without the word jaxpg in front."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - LAST_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("jaxpg: ") if lines else ""


def jaxpg_command(name: str, *words: str) -> list[str]:
    """The command line of ``python -m jaxpg.NAME``."""
    return [*module_command(f"jaxpg.{name}"), *words]


class OneCommand:
    """A work of a single command.

    Args:
      log: file to which the output is appended.
      command: the command.
    """

    def __init__(self, log: Path, command: list[str]):
        self.log = log
        self._left: list[list[str]] = [command]

    def next_command(self) -> list[str] | None:
        return self._left.pop() if self._left else None


def make_page(folder: Path, words: Sequence[str], log: Path, stop: Stop) -> None:
    """Makes the page of a folder of runs, ``python -m jaxpg.report``, in a process of its own."""
    processes = Processes(1)
    processes.add(OneCommand(log, jaxpg_command("report", str(folder), *words)))

    def heed(ended: Ended) -> None:
        if ended.failure:
            say(f"jaxpg: {folder}: the page was not made: {ended.failure}", error=True)

    run_until_idle(processes, stop, heed, lambda: None)


def run_until_idle(processes: Processes, stop: Stop, heed: Callable[[Ended], None], look: Callable[[], None]) -> None:
    """Runs all works until they have ended or a signal arrives, upon which the works are asked to save and end.

    Args:
      processes: the works.
      stop: notes the signals that this process receives.
      heed: called with each work that has ended. It may add further works.
      look: called after each look at the processes, several times a second.
    """
    try:
        while not processes.is_idle and stop.signal is None:
            for ended in processes.poll():
                heed(ended)
            look()
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        processes.close()
