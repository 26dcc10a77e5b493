"""Small real runs through the command line, and what must be the same in them however often they were interrupted."""

import csv
import fcntl
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 900

_CARTPOLE = [
    *("--env.game", "CartPole-v1", "--observation.name", "vector", "--env.num-lanes", "4", "--env.num-threads", "1"),
    *("--env.max-episode-agent-steps", "200", "--checkpoint.segment-agent-steps", "400"),
]
_REINFORCE = [*_CARTPOLE, "--policy.hidden", "8", "--run.budget-agent-steps", "6400"]
_POPULATION = [*_CARTPOLE, "--policy.name", "linear", "--run.budget-agent-steps", "1000000000"]
_PONG = [
    *("--env.game", "Pong", "--env.num-lanes", "2", "--env.num-threads", "1", "--policy.hidden", "8"),
    *("--observation.height", "35", "--observation.width", "20", "--observation.first-row", "5"),
    *("--observation.end-row", "33", "--observation.first-column", "0", "--observation.end-column", "20"),
    *("--env.max-episode-agent-steps", "200", "--checkpoint.segment-agent-steps", "200"),
    *("--run.target-return", "None", "--run.schedule-agent-steps", "0", "--run.budget-agent-steps", "1600"),
    *("--reinforce.rollout-agent-steps", "8"),
]
_JAX = [*_CARTPOLE, "--env.backend", "gymnax"]
_REINFORCE_IN_JAX = [
    *(*_JAX, "--policy.hidden", "8", "--reinforce.rollout-agent-steps", "8", "--run.budget-agent-steps", "12800"),
]
KINDS = {
    "reinforce": [*_REINFORCE, "--reinforce.rollout-agent-steps", "8"],
    "clipped": [
        *(*_REINFORCE, "--reinforce.rollout-agent-steps", "16", "--reinforce.epochs", "3"),
        *("--reinforce.minibatch-agent-steps", "16"),
    ],
    "ale": [*_PONG, "--env.backend", "ale"],
    "envpool-pong": [*_PONG, "--env.backend", "envpool"],
    "random_search": [
        *(*_POPULATION, "--run.learner", "random_search", "--random-search.candidates", "300"),
        *("--random-search.prior", "normal", "--random-search.finalists", "6"),
        *("--random-search.finalist-episodes", "2", "--random-search.winner-episodes", "10"),
    ],
    "evolution": [
        *(*_POPULATION, "--run.learner", "evolution", "--evolution.pairs", "8"),
        *("--evolution.generations", "12", "--evolution.episodes-per-candidate", "2"),
    ],
    "gymnasium": [
        *(*_REINFORCE, "--env.backend", "gymnasium", "--env.workers", "2", "--reinforce.rollout-agent-steps", "8"),
    ],
    "jax": _REINFORCE_IN_JAX,
    "jax-sweep": [
        *(*_REINFORCE_IN_JAX, "--run.population", "2", "--run.sweep", '{"optimizer.learning_rate": [1e-3, 1e-2]}'),
    ],
    "jax-evolution": [
        *(*_JAX, "--policy.name", "linear", "--run.budget-agent-steps", "1000000000", "--run.learner", "evolution"),
        *("--evolution.pairs", "8", "--evolution.generations", "12", "--evolution.normalize-observations"),
    ],
}
"""Flags of each kind of run, without its folder and without saves."""
PATHS = {
    **dict.fromkeys(("reinforce", "clipped", "envpool-pong"), "compiled rollouts"),
    **dict.fromkeys(("jax", "jax-sweep"), "rollouts in JAX"),  # one program with the learning
}
"""How a kind's agent steps are made where Python does not step them, in the words of a run's first line."""


class End(NamedTuple):
    """How a process ended."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Outcome:
    """What a part of the harness counted, and what was not as promised."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.violations.append(otherwise)

    def add(self, other: "Outcome") -> None:
        self.counts.update(other.counts)
        self.violations += other.violations


def cache() -> Path:
    """Where this session keeps compiled code and finished runs, shared by the test processes, never the user's."""
    if "XDG_CACHE_HOME" not in os.environ:
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="jaxpg-faults-")
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def saves(iterations: int = 0, seconds: float = 0) -> list[str]:
    return ["--checkpoint.every-iterations", str(iterations), "--checkpoint.every-seconds", str(seconds)]


def new(kind: str, folder: Path) -> list[str]:
    """The arguments of a new run of this kind."""
    return [*KINDS[kind], "--run.dir", str(folder)]


def start(argv: list[str], *, wrapper: str = "", stderr: Any = subprocess.PIPE, **environment: str) -> subprocess.Popen:
    """Starts ``python -m jaxpg.train`` of this checkout; ``wrapper`` is Python that runs before it in the process."""
    code = f"{wrapper}\nimport runpy; runpy.run_module('jaxpg.train', run_name='__main__', alter_sys=True)"
    command = ["-c", code] if wrapper else ["-m", "jaxpg.train"]
    # A process that is killed may leave half an entry in the cache of compiled code: it has one of its own.
    kept = {name: x for name, x in os.environ.items() if not name.startswith("JAX_")}
    own = {"XDG_CACHE_HOME": str(cache()), "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, *command, *argv],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
        env={**kept, **own, **environment},
    )


def end(process: subprocess.Popen) -> End:
    """Waits for the end; a process that hangs is killed and reported."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return End(process.returncode, stdout, stderr or "")


def lines(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for_lines(process: subprocess.Popen, folder: Path, number: int) -> bool:
    """Waits until so many iterations are written; False where the process ended before."""
    while process.poll() is None:
        if lines(folder) >= number:
            return True
        time.sleep(0.005)
    return False


def _once(name: str, make: Callable[[Path], list[float]]) -> Path:
    """A run folder that the first of this session's test processes makes; beside it is what ``make`` returns."""
    folder, result = cache() / name, cache() / f"{name}.json"
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            result.write_text(json.dumps(make(folder)))
    return folder


@functools.cache
def uninterrupted(kind: str) -> Path:
    """A run that nothing happened to, saved at its end alone."""

    def make(folder: Path) -> list[float]:
        began = time.monotonic()
        process = start([*new(kind, folder), *saves()])
        wait_for_lines(process, folder, 1)
        first_line = time.monotonic() - began
        ended = end(process)
        if ended.code:
            raise RuntimeError(f"{kind}: an uninterrupted run ended with {ended}")
        path = PATHS.get(kind, "rollouts stepped from Python")
        if path not in ended.stdout:
            raise RuntimeError(f"{kind}: {path} were wanted: {ended.stdout}")
        return [first_line, time.monotonic() - began - first_line]

    return _once(f"whole-{kind}", make)


@functools.cache
def interrupted(kind: str) -> Path:
    """A run that was asked to end on its way, with three checkpoints."""

    def make(folder: Path) -> list[float]:
        process = start([*new(kind, folder), *saves(iterations=25), "--checkpoint.keep-newest", "3"])
        wait_for_lines(process, folder, 110)
        process.terminate()
        ended = end(process)
        if ended.code != 143:
            raise RuntimeError(f"{kind}: a run that was asked to end ended with {ended}")
        return []

    return _once(f"interrupted-{kind}", make)


def phases_seconds(kind: str) -> tuple[float, float]:
    """Seconds until the first iteration is written, and from there to the end, in a run without saves."""
    uninterrupted(kind)
    first_line, rest = json.loads((cache() / f"whole-{kind}.json").read_text())
    return first_line, rest


def finish(folder: Path, *argv: str, **environment: str) -> End:
    return end(start(["--resume", str(folder), *argv], **environment))


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def episodes(folder: Path) -> list[dict]:
    with (folder / "episodes.csv").open(newline="") as file:
        return list(csv.DictReader(file))
