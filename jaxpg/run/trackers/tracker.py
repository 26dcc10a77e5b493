"""Starts the process that keeps a tracked run up to date, so that no tracker can hold up or end the training."""

import hmac
import importlib.util
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_json, read_regular
from jaxpg.core.user_modules import imports_flags
from jaxpg.machine.command import module_command
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import refuse_links
from jaxpg.machine.waiting import said_while_waiting

TRACKERS = ("wandb", "mlflow", "trackio")
"""The trackers. Each name is also that of the Python package, and of the extra that installs it."""
SECONDS_TO_FINISH = 120.0
"""How long the end of a run, of an evaluation or of a recording waits for its trackers."""
SECONDS_BETWEEN_TRIES = 300.0
"""How long after a tracker has failed it is tried again."""
MAX_LETTERS = 300
"""How much of a tracker's own words is said."""
SECRET_BYTES = 32
SECONDS_UNTIL_WELL = 120.0
"""How long a tracker must go on after a failure until its next failure is worth a sentence again."""


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError where ``run.writers`` names a tracker whose package is missing."""
    for name in names:
        if name in TRACKERS:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:  # a folder of that name, such as ./wandb, has no origin
                raise UserError(f"run.writers: {name} is not installed; pip install 'jaxpg[{name}]'")


class Tracker:
    """Writer that lets a process of its own send the run to a tracker.

    The process reads the run folder (``jaxpg.run.trackers.follow``), so whatever a tracker has missed is sent later.

    Args:
      name: one of ``TRACKERS``.
      folder: the run folder. The process writes its output to ``trackers/NAME.log`` in it.
    """

    def __init__(self, name: str, folder: Path):
        self.name, self._folder = name, folder
        self._log = folder / "trackers" / f"{name}.log"
        self._failure: str | None = None
        self._told: str | None = None  # the failure that ``write`` has raised
        self._start()

    def write(self, record: object, episodes: object) -> None:
        """Returns at once; raises OSError while the tracker fails."""
        self._notice_end()
        seconds = time.monotonic() - self._started_at
        if self._process is None and seconds > SECONDS_BETWEEN_TRIES:
            self._start()
        elif self._process is not None and seconds > SECONDS_UNTIL_WELL:
            self._failure = None
        if self._failure:
            self._told = self._failure
            raise OSError(self._failure)

    def close(self) -> None:
        """Does nothing: the tracker still waits for the summary and the last videos, until ``finish``."""

    def end(self) -> None:
        """Tells the process that nothing more will come."""
        if self._process and self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()

    def wait(self, seconds: float) -> str | None:
        """Waits until the process has sent everything; kills it after ``seconds``.

        Returns:
          Why something is missing. None where nothing is, and where ``write`` has raised the reason before.
        """
        if self._process is None:
            return None if self._failure == self._told else self._failure
        try:
            self._process.wait(max(seconds, 0.0))
        except BaseException as error:  # also a signal, which ends the waiting
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"{self.name}: not everything was sent in time"
        self._failure = None
        self._notice_end()
        return self._failure

    def _start(self) -> None:
        self._started_at = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                follow = [*module_command("jaxpg.run.trackers.follow"), self.name, str(self._folder), *imports_flags()]
                self._process = subprocess.Popen(
                    ["nice", "-n", "10", *follow],
                    stdin=subprocess.PIPE,  # its end, however this process ends, ends the other one
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                    process_group=0,  # so that Ctrl-C reaches only the training, which then ends the tracker
                )
        except OSError as error:
            self._failure = f"{self.name}: {error.filename}: {error.strerror}"

    def _notice_end(self) -> None:
        if self._process is None or self._process.poll() is None:
            return
        self.end()
        if self._process.returncode != 0:
            said = self._log.read_bytes()[self._log_start :].decode(errors="replace").strip().splitlines()
            own = [line.removeprefix("jaxpg: ") for line in said if line.startswith("jaxpg: ")]
            words = [f"exit code {self._process.returncode}", *said[-1:], *own[-1:]][-1]
            self._failure = f"{self.name}: {words[:MAX_LETTERS].rstrip('.')}"
        self._process = None


def finish(trackers: Sequence[Tracker]) -> None:
    """Waits a bounded time until every tracker has everything, and says which of them does not."""
    if not trackers:
        return
    deadline = time.monotonic() + SECONDS_TO_FINISH
    for tracker in trackers:
        tracker.end()
    with said_while_waiting(f"waiting for {', '.join(tracker.name for tracker in trackers)}"):
        missing = [tracker.wait(deadline - time.monotonic()) for tracker in trackers]
    for reason in filter(None, missing):
        say(f"jaxpg: {reason}; the next --resume, evaluate or record sends what is missing", error=True)


def bring_up_to_date(folder: Path) -> None:
    """Sends what is new in a run folder to the trackers that show the run, unless a training does so already.

    A run that somebody else has tracked stays as it is, because its folder names a run of this user's account, and
    whoever wrote the folder may have chosen any.
    """
    names = [name for name in TRACKERS if (folder / "trackers" / f"{name}.json").is_file()]
    if names:
        refuse_links(folder)
    own = [name for name in names if _is_own(folder, name)]
    for name in sorted(set(names) - set(own)):
        say(f"jaxpg: {folder}: {name} gets nothing, because another user tracked this run; --resume sends it")
    finish([Tracker(name, folder) for name in own if not _is_followed(folder, name)])


def proof_of(name: str, run_id: str) -> str:
    """A text by which a run folder shows that this user has tracked it under this id. Empty where none can be kept.

    The secret that it is made with does not lie in the cache, because people empty caches.
    """
    place = platformdirs.user_state_path("jaxpg") / "tracker-secret"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
        secret = read_regular(place)
    except OSError:
        return ""
    is_whole = len(secret) == SECRET_BYTES
    return hmac.new(secret, f"{name} {run_id}".encode(), "sha256").hexdigest() if is_whole else ""


def _is_own(folder: Path, name: str) -> bool:
    try:
        state = read_json(folder / "trackers" / f"{name}.json")
        proof, own = str(state["proof"]), proof_of(name, str(state["run"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return own != "" and hmac.compare_digest(proof.encode(), own.encode())


def lock_of(folder: Path, name: str) -> FileLock:
    """The lock that the process of a tracker holds."""
    return FileLock(folder / "trackers" / f"{name}.lock")


def _is_followed(folder: Path, name: str) -> bool:
    try:
        with lock_of(folder, name).acquire(blocking=False):
            return False
    except Timeout:
        return True
