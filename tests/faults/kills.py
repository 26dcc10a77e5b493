"""SIGKILL at random moments, again and again, until the run is finished: nothing of it may show."""

import random
import subprocess
import time
from itertools import count
from pathlib import Path
from typing import NamedTuple

from tests.faults.compare import differences
from tests.faults.runs import Outcome, end, new, phases_seconds, saves, start

MOMENTS = ["start", "replay", "iteration", "iteration", "save", "save"]
POLL_SECONDS = 0.001
FRESH_CACHE_SHARE = 0.15
"""Of the runs: they compile everything, so that some kills fall into writing compiled code."""


class _File(NamedTuple):
    inode: int
    size: int


class Watch:
    """Tells from the run's files alone how far a training process is."""

    def __init__(self, folder: Path):
        self._metrics, self._checkpoints = folder / "metrics.jsonl", folder / "checkpoints"
        self._last, self._unfinished_before = self._stat(), self._unfinished()
        self.opened = False
        self.wrote = False

    def look(self) -> None:
        now = self._stat()
        if now != self._last:
            grew = now is not None and self._last is not None and now.inode == self._last.inode
            grew = grew and now.size > self._last.size
            self.wrote |= grew
            self.opened |= not grew
        self._last = now

    @property
    def saving(self) -> bool:
        return bool(self._unfinished() - self._unfinished_before)

    def _stat(self) -> _File | None:
        try:
            stat = self._metrics.stat()
        except FileNotFoundError:
            return None
        return _File(stat.st_ino, stat.st_size)

    def _unfinished(self) -> set[str]:
        try:
            folders = [path for path in self._checkpoints.iterdir() if path.is_dir() and path.suffix != ".damaged"]
        except FileNotFoundError:
            return set()
        return {path.name for path in folders if not (path / "manifest.json").exists()}


def kill_at_random(kind: str, rounds: int, seed: int | str, folder: Path) -> Outcome:
    """Kills runs of this kind, one after another, ``rounds`` times in all, and lets the last one finish."""
    rng, outcome = random.Random(f"{kind} {seed}"), Outcome()
    for number in count():
        _run(kind, rounds, rng, outcome, folder / f"{kind}-{number}")
        if outcome.counts["kills"] >= rounds:
            return outcome
    raise AssertionError


def _run(kind: str, rounds: int, rng: random.Random, outcome: Outcome, folder: Path) -> None:
    """One run to its end, killed on the way as long as kills are left."""
    outcome.counts["runs"] += 1
    environment = {"XDG_CACHE_HOME": str(folder) + "-cache"} if rng.random() < FRESH_CACHE_SHARE else {}
    told, kills = "", 0
    while True:
        resumes = (folder / "config.yaml").exists()
        outcome.counts["resumes"] += resumes
        argv = ["--resume", str(folder)] if resumes else new(kind, folder)
        watch = Watch(folder)
        process = start([*argv, *_random_saves(rng)], **environment)
        killed = outcome.counts["kills"] < rounds and _kill(process, watch, kind, rng)
        code, _, stderr = end(process)
        told += stderr
        if not killed:
            break
        kills += 1
        outcome.counts["kills"] += 1
        outcome.counts[f"kills in {_phase(watch)}"] += 1
    name = f"{kind} after {kills} kills in {folder}"
    strange = [line for line in told.splitlines() if not line.startswith("jaxpg: ")]
    outcome.require(not strange, f"{name}: stderr says {strange[:3]}")
    outcome.require(code == 0, f"{name}: exit code {code}, stderr {stderr[-500:]}")
    if code == 0:
        found = differences(kind, folder)
        outcome.require(not found, f"{name}: {'; '.join(found[:4])}")
        outcome.counts["identical"] += not found


def _random_saves(rng: random.Random) -> list[str]:
    iterations, seconds = rng.choice([0, 5, 10, 25]), rng.choice([0, 0.1, 0.4])
    return saves(iterations, seconds) if iterations or seconds else saves(iterations=10)


def _kill(process: subprocess.Popen, watch: Watch, kind: str, rng: random.Random) -> bool:
    """Kills the process at a random moment; False where it ended of itself before."""
    moment = rng.choice(MOMENTS)
    start_seconds, train_seconds = phases_seconds(kind)
    after = {
        "start": rng.uniform(0, 0.5 * start_seconds),  # which the cold start took
        "replay": rng.uniform(0, 1),
        "iteration": rng.uniform(0, 0.7 * train_seconds),
        "save": rng.choice([0, rng.uniform(0, 0.05)]),
    }[moment]
    since = time.monotonic() if moment == "start" else None
    while process.poll() is None:
        watch.look()
        reached = {"start": True, "replay": watch.opened, "iteration": watch.wrote, "save": watch.saving}[moment]
        if reached and since is None:
            since = time.monotonic()
        if since is not None and time.monotonic() - since >= after:
            process.kill()
            process.wait()
            return process.returncode == -9
        time.sleep(POLL_SECONDS)
    return False


def _phase(watch: Watch) -> str:
    watch.look()
    if watch.saving:
        return "save"
    return "iteration" if watch.wrote else "replay" if watch.opened else "start"
