"""A disk that fills up in the middle of a run, and a folder that cannot be written.

The disk is a small tmpfs in a mount namespace of its own, which the worker (this file as a command) makes for itself;
where that is not allowed, a limit on the size of every file stands for the full disk, and permissions for read-only.
"""

import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.faults.runs import ROOT, Outcome, end, finish, interrupted, new, saves, start, wait_for_lines
from tests.faults.signals import refusal

SIZE_MIB = 64
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


class Disk(Protocol):
    """Something that a process writes to and that can be full."""

    def fill(self, process: subprocess.Popen) -> None: ...
    def free(self, process: subprocess.Popen) -> None: ...


class Tmpfs:
    """A file system of its own, mounted on a folder."""

    def __init__(self, folder: Path):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "none", folder], check=True)
        self._ballast = folder / "ballast"

    def fill(self, process: subprocess.Popen) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def free(self, process: subprocess.Popen) -> None:
        self._ballast.unlink()


class SizeLimit:
    """No file may grow beyond one byte (RLIMIT_FSIZE), so that every write fails."""

    def fill(self, process: subprocess.Popen) -> None:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))

    def free(self, process: subprocess.Popen) -> None:
        if process.poll() is None:
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@functools.cache
def has_namespaces() -> bool:
    """Whether a process may mount a file system for itself alone."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def full_disk(kind: str, folder: Path, *, freed: bool) -> Outcome:
    """The disk fills up in mid-run, and has space again before the end or only afterwards."""
    from tests.faults.compare import differences  # here, because it imports JAX, which the worker need not wait for

    outcome = _in_namespace("full", kind, folder, "freed" if freed else "stays")
    if (folder / "copy").exists():
        found = differences(kind, folder / "copy", has_gaps_in_tensorboard=True)
        outcome.require(not found, f"full disk: {'; '.join(found[:4])}")
        outcome.counts["identical"] += not found
    return outcome


def read_only(kind: str, folder: Path) -> Outcome:
    """Neither a new run nor a resumed one is begun in a folder that cannot be written."""
    interrupted(kind)
    return _in_namespace("read-only", kind, folder, "")


def _in_namespace(scenario: str, kind: str, folder: Path, variant: str) -> Outcome:
    """Runs a scenario of this file in a process that may mount, if there may be one."""
    folder.mkdir(parents=True)
    prefix = NAMESPACE if has_namespaces() else []
    command = [*prefix, sys.executable, "-m", "tests.faults.disk", scenario, kind, str(folder), variant]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return Outcome(violations=[f"{scenario} {variant}: the harness itself failed: {done.stderr[-2000:]}"])
    said = json.loads(done.stdout.splitlines()[-1])
    return Outcome(Counter(said["counts"]), said["violations"])


def _full(kind: str, folder: Path, variant: str) -> Outcome:
    outcome, name = Outcome(), f"{kind}: full disk ({variant})"
    outcome.counts[f"full disk ({'tmpfs' if has_namespaces() else 'RLIMIT_FSIZE'}), {variant}"] += 1
    mount = folder / "disk"
    mount.mkdir()
    disk: Disk = Tmpfs(mount) if has_namespaces() else SizeLimit()
    run, told = mount / "run", folder / "stderr"
    with told.open("w") as stderr:
        process = start([*new(kind, run), *saves(iterations=5)], stderr=stderr)
    wait_for_lines(process, run, 60)
    disk.fill(process)
    full_at = _saves(run)
    reported = _wait(process, lambda: "not saved" in told.read_text())
    outcome.require(reported, f"{name}: no failed save was reported: {told.read_text()!r}")
    if variant == "freed":
        disk.free(process)
        saved = _wait(process, lambda: _saves(run) > full_at)
        outcome.require(saved, f"{name}: no later save before the end")
    code = end(process).code
    outcome.require(code == (0 if variant == "freed" else 1), f"{name}: exit code {code}: {told.read_text()!r}")
    if variant != "freed":
        disk.free(process)
    strange = [line for line in told.read_text().splitlines() if not line.startswith("jaxpg: ")]
    outcome.require(not strange, f"{name}: stderr says {strange[:5]}")
    half = [str(path) for path in run.rglob("*") if "tmp" in path.name]
    outcome.require(not half, f"{name}: left {half}")
    resumed = finish(run)
    outcome.require(resumed.code == 0, f"{name}: the resumed run ended with {resumed.code}: {resumed.stderr}")
    outcome.require(not resumed.stderr, f"{name}: the resumed run says {resumed.stderr}")
    shutil.copytree(run, folder / "copy")
    return outcome


def _saves(run: Path) -> int:
    """The newest finished save; 0 where there is none."""
    folders = (run / "checkpoints").glob("*/manifest.json")
    return max((int(path.parent.name) for path in folders if path.parent.name.isdecimal()), default=0)


def _wait(process: subprocess.Popen, until: Callable[[], bool]) -> bool:
    while not until():
        if process.poll() is not None:
            return until()
        time.sleep(0.005)
    return True


def _read_only(kind: str, folder: Path, variant: str) -> Outcome:
    outcome, run = Outcome(), folder / "disk" / "run"
    run.parent.mkdir()
    if has_namespaces():
        Tmpfs(run.parent)
    shutil.copytree(interrupted(kind), run)
    before = sorted(str(path) for path in run.rglob("*"))
    if has_namespaces():
        subprocess.run(["mount", "-o", "remount,ro", run.parent], check=True)
    else:
        for path in [run.parent, run, *run.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    argvs = {"a new run": new(kind, run.parent / "new"), "resuming": ["--resume", str(run)]}
    for name, other in {name: start(argv) for name, argv in argvs.items()}.items():
        outcome.counts[f"read-only ({'remount' if has_namespaces() else 'chmod'})"] += 1
        outcome.violations += [f"read-only, {name}: {what}" for what in refusal(end(other))]
    outcome.require(sorted(str(path) for path in run.rglob("*")) == before, "read-only: files came or went")
    return outcome


if __name__ == "__main__":
    SCENARIO, KIND, FOLDER, VARIANT = sys.argv[1:]
    os.umask(0o077)
    RESULT = {"full": _full, "read-only": _read_only}[SCENARIO](KIND, Path(FOLDER), VARIANT)
    print(json.dumps({"counts": RESULT.counts, "violations": RESULT.violations}))
