"""Videos of a run while it is trained, made by processes that the training never waits for."""

import os
import shlex
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from jaxpg.core.errors import UserError
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import action_names
from jaxpg.machine.beginning import PARENT
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import unfinished_path

SECONDS_TO_END = 5.0
"""How long a process that was asked to end may take."""


def check_recordable(env: EnvConfig) -> None:
    """Raises UserError where the game has no picture."""
    try:
        action_names(env)
    except UserError as error:
        raise UserError(f"run.record_every: {error}") from error


class Recorder:
    """Records checkpoints one after another, each in a process of its own of the lowest priority, on the CPU.

    A recording that fails is a line on stderr and no more.

    Args:
      run: folder of the run; the processes write to videos/record.log there.
    """

    def __init__(self, run: Path):
        self._run = run
        self._log = run / "videos" / "record.log"
        self._waiting: deque[int] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._recording = 0  # the iteration that the process records
        self._log_start = 0  # byte of the log with which its words begin

    @property
    def unrecorded(self) -> list[int]:
        """Iterations whose video is not there yet, the one that is being made first."""
        return [*([self._recording] if self._process else []), *self._waiting]

    def add(self, iteration: int) -> None:
        """Asks for a video of a checkpoint that is on disk."""
        self._waiting.append(iteration)
        self.poll()

    def poll(self) -> None:
        """Starts the next recording if the last one has ended; takes no time."""
        self._notice_end()
        while self._waiting and self._process is None:
            self._start(self._waiting.popleft())

    def wait(self, seconds: float) -> None:
        """Waits for the recording to end, but not longer than so many seconds, and starts the next one."""
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.poll()

    def close(self) -> None:
        """Ends the recording and names the checkpoints that have no video."""
        self._notice_end()
        iterations = ", ".join(map(str, self.unrecorded))
        if iterations:
            command = f"python -m jaxpg.record {shlex.quote(str(self._run))} --checkpoint {iterations.replace(',', '')}"
            self._waiting.clear()
            self._end()
            say(f"jaxpg: not recorded: {iterations}; {command}")

    def _notice_end(self) -> None:
        if self._process is None or self._process.poll() is None:
            return
        if self._process.returncode != 0:
            said = self._log.read_bytes()[self._log_start :].decode(errors="replace").strip().splitlines()
            self._warn(said[-1].removeprefix("jaxpg: ") if said else f"exit code {self._process.returncode}")
        self._process = None

    def _start(self, iteration: int) -> None:
        self._recording = iteration
        command = [sys.executable, "-m", "jaxpg.record", str(self._run), "--checkpoint", str(iteration)]
        command.append("--trust-imports")  # what this process runs already
        try:
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    ["nice", "-n", "19", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "JAX_PLATFORMS": "cpu", PARENT: str(os.getpid())},
                    process_group=0,  # Ctrl-C is for the training, which then ends the recording
                )
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")

    def _end(self) -> None:
        """Ends the process, if there is one, and takes its unfinished video away."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        unfinished_path(self._log.with_name(f"{self._recording}.mp4")).unlink(missing_ok=True)
        self._process = None

    def _warn(self, reason: str) -> None:
        say(f"jaxpg: checkpoint {self._recording} was not recorded: {reason}", error=True)
