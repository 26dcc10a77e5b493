"""One of several processes of a run is killed, again and again: the others end by themselves, and a restart goes on."""

import random
import re
import socket
import subprocess
import time
from pathlib import Path

from tests.faults.compare import compare, fingerprint, irregular
from tests.faults.runs import Outcome, end, lines, new, saves, start

PROCESSES = 4
LONGEST_END_SECONDS = 60
KINDS = ("reinforce", "random_search", "jax")
SMALL = ["--run.lane-groups", "4", "--env.num-lanes", "8"]


def start_all(argv: list[str], processes: int = PROCESSES) -> list[subprocess.Popen]:
    """Starts a run's processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = ["--distributed.coordinator-address", address, "--distributed.num-processes", str(processes)]
    return [start([*argv, *together, "--distributed.process-id", str(i)]) for i in range(processes)]


def kill_partners(kind: str, rounds: int, seed: int, folder: Path) -> Outcome:
    """Kills a random process of a run at a random moment, ``rounds`` times; the run must end as one without kills.

    Between two kills the run goes on with all its processes; once it has ended, another one begins.
    """
    rng, outcome = random.Random(f"{kind} {seed}"), Outcome()
    whole, run = folder / f"{kind}-whole", folder / f"{kind}-0"
    folder.mkdir(parents=True, exist_ok=True)
    codes = [end(process).code for process in start_all([*new(kind, whole), *SMALL, *saves()])]
    outcome.require(codes == [0] * PROCESSES, f"{kind}: an uninterrupted run ended with {codes}")
    number = 0
    while outcome.counts["partners killed"] < rounds or (run / "config.yaml").exists():
        argv = ["--resume", str(run)] if (run / "config.yaml").exists() else [*new(kind, run), *SMALL]
        processes = start_all([*argv, *saves(iterations=rng.choice([5, 20]))])
        victim = rng.randrange(PROCESSES)
        wanted = outcome.counts["partners killed"] < rounds and rng.random() < 0.85
        if wanted and _kill(processes, victim, run, rng):
            outcome.counts["partners killed"] += 1
            outcome.counts[f"killed process {victim}"] += 1
            _check_others(processes, victim, f"{kind} in {run}", outcome)
            continue
        ends = [end(process) for process in processes]
        outcome.require(all(one.code == 0 for one in ends), f"{kind} in {run}: ended with {ends}")
        found = compare(fingerprint(whole), fingerprint(run)) + irregular(run)
        outcome.require(not found, f"{kind} in {run}: {'; '.join(found[:4])}")
        outcome.counts["runs of partners identical"] += not found
        number += 1
        run = folder / f"{kind}-{number}"
    return outcome


def _kill(processes: list[subprocess.Popen], victim: int, run: Path, rng: random.Random) -> bool:
    """Kills one after the training has begun to write; False where the run ended before."""
    before = lines(run)
    while lines(run) <= before:
        if processes[0].poll() is not None:
            return False
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 3))
    processes[victim].kill()
    return processes[victim].wait() == -9


def _check_others(processes: list[subprocess.Popen], victim: int, name: str, outcome: Outcome) -> None:
    began = time.monotonic()
    for number, process in enumerate(processes):
        ended = end(process)
        if number == victim or ended.code == 0:  # it had ended before
            continue
        sentence = ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else ""
        named = re.fullmatch(rf"jaxpg: process {number} ends: process {victim} \(.*\) is gone; --resume .*", sentence)
        outcome.require(ended.code == 1 and bool(named), f"{name}: process {number}: {ended.code}, {sentence!r}")
        outcome.counts["partners that ended by themselves"] += 1
    seconds = time.monotonic() - began
    outcome.counts[f"others ended within {10 if seconds <= 10 else LONGEST_END_SECONDS} s"] += 1
    outcome.require(seconds < LONGEST_END_SECONDS, f"{name}: the others took {seconds:.0f} s to end")
