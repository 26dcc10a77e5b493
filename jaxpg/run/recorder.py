"""Records videos of a run during training, in separate processes that the training never waits for."""

import os
import shlex
import signal
import subprocess
from collections import deque
from contextlib import suppress
from pathlib import Path

from jaxpg.core.user_modules import imports_flags
from jaxpg.machine.beginning import PARENT
from jaxpg.machine.command import module_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import unfinished_path

SECONDS_TO_END = 5.0
"""How long a recording process may take to end once it is asked to."""


class Recorder:
    """Records checkpoints one after another, each in its own process on the CPU at the lowest priority.

    A recording that fails costs one sentence on stderr; the training goes on.

    Args:
      run: the run folder. The recording processes write their output to ``videos/record.log`` in it.
    """

    def __init__(self, run: Path):
        self._run = run
        self._log = run / "videos" / "record.log"
        self._waiting: deque[int] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._recording = 0  # iteration of the checkpoint that the process records
        self._log_start = 0  # byte of the log where the output of the process begins

    @property
    def unrecorded(self) -> list[int]:
        """Iterations of the checkpoints whose video is not finished, led by the one that is being recorded."""
        return [*([self._recording] if self._process else []), *self._waiting]

    def add(self, iteration: int) -> None:
        """Asks for a video of a checkpoint, which must already be on disk."""
        self._waiting.append(iteration)
        self.poll()

    def poll(self) -> None:
        """Starts the next recording if the last one has ended; returns at once."""
        self._notice_end()
        while self._waiting and self._process is None:
            self._start(self._waiting.popleft())

    def wait(self, seconds: float) -> None:
        """Waits at most ``seconds`` for the current recording to end; starts the next one if it has ended."""
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.poll()

    def close(self) -> None:
        """Stops the current recording and names the checkpoints that have no video."""
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
        command = [*module_command("jaxpg.record"), str(self._run), "--checkpoint", str(iteration), *imports_flags()]
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
                    process_group=0,  # so that Ctrl-C reaches only the training, which then stops the recording
                )
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")

    def _end(self) -> None:
        """Ends the recording process, if there is one, and removes its unfinished video."""
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
