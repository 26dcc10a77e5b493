"""Videos of a run while it is trained, made by processes that the training never waits for."""

import os
import shlex
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import action_names
from jaxpg.errors import UserError

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
        if self._process and self._process.poll() is not None:
            if self._process.returncode != 0:
                self._warn(_last_line(self._log) or f"ended with code {self._process.returncode}")
            self._process = None
        while self._waiting and self._process is None:
            self._start(self._waiting.popleft())

    def wait(self, seconds: float) -> None:
        """Waits for the recording to end, but not longer than so many seconds."""
        if self._process:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return
        self.poll()

    def close(self) -> None:
        """Ends the recording and names the checkpoints that have no video."""
        self.poll()
        if not self.unrecorded:
            return
        iterations = [str(iteration) for iteration in self.unrecorded]
        self._waiting.clear()
        if self._process:
            self._end(self._process)
        command = f"python -m jaxpg.record {shlex.quote(str(self._run))} --checkpoint {' '.join(iterations)}"
        print(f"jaxpg: not recorded: {', '.join(iterations)}; {command}", flush=True)

    def _start(self, iteration: int) -> None:
        self._recording = iteration
        command = [sys.executable, "-m", "jaxpg.record", str(self._run), "--checkpoint", str(iteration)]
        try:
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    ["nice", "-n", "19", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                    start_new_session=True,  # Ctrl-C is for the training, which then ends the recording
                )
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGINT)  # so that it takes its unfinished files away
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None

    def _warn(self, reason: str) -> None:
        print(f"jaxpg: checkpoint {self._recording} was not recorded: {reason}", file=sys.stderr, flush=True)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1].removeprefix("jaxpg: ") if lines else ""
