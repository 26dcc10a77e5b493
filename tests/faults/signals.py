"""SIGTERM, SIGINT and SIGHUP at any moment, a clock that jumps back, a second trainer on the same folder."""

import random
import signal
import socket
import time
from pathlib import Path

from tests.faults.compare import differences
from tests.faults.runs import End, Outcome, end, finish, new, phases_seconds, saves, start, wait_for_lines

CODES = {
    signal.SIGTERM: {143, -signal.SIGTERM},  # the latter while Python imports, and for the second signal
    signal.SIGINT: {130, -signal.SIGINT},
    signal.SIGHUP: {129, -signal.SIGHUP},
}

JUMPS_BACK = """
import time
real, calls = time.time, [0]
def jumping():
    calls[0] += 1
    return real() - 10 * calls[0] - {days} * 86400
time.time = jumping
"""


def signalled(
    kind: str, number: signal.Signals, folder: Path, seed: int, *, times: int = 1, at_start: bool = False
) -> Outcome:
    """Sends a signal, once or twice, and resumes the run to its end."""
    rng, outcome = random.Random(f"{kind} {number} {seed}"), Outcome()
    start_seconds, train_seconds = phases_seconds(kind)
    process = start([*new(kind, folder), *saves(iterations=25)])
    if not at_start:
        wait_for_lines(process, folder, 1)
    time.sleep(rng.uniform(0, 0.5 * start_seconds if at_start else 0.7 * train_seconds))
    for _ in range(times):
        process.send_signal(number)
        time.sleep(rng.uniform(0, 0.03))
    ended = end(process)
    name = f"{kind}: {number.name} {times} times {'at the start' if at_start else 'in the training'} (seed {seed})"
    outcome.counts[f"{number.name}{' twice' if times == 2 else ''}{' at the start' if at_start else ''}"] += 1
    outcome.require(ended.code in CODES[number] | {0}, f"{name}: exit code {ended.code}: {ended.stderr}")
    if not at_start:
        strange = [line for line in ended.stderr.splitlines() if not line.startswith("jaxpg: ")]
        outcome.require(not strange, f"{name}: stderr says {strange[:3]}")
    outcome.add(_finished(kind, folder, name))
    return outcome


def clock_jumps_back(kind: str, folder: Path) -> Outcome:
    """Every look at the clock says ten seconds less than the one before; the resumed process is a year behind."""
    outcome, name = Outcome(), f"{kind}: clock jumps back"
    flags = saves(iterations=25, seconds=0.2)
    process = start([*new(kind, folder), *flags], wrapper=JUMPS_BACK.format(days=0))
    wait_for_lines(process, folder, 60)
    process.kill()
    end(process)
    ended = end(start(["--resume", str(folder)], wrapper=JUMPS_BACK.format(days=365)))
    outcome.counts["clock jumps back"] += 1
    outcome.add(_compared(kind, folder, name, ended))
    return outcome


def second_trainer(kind: str, folder: Path) -> Outcome:
    """A second trainer on the same folder is refused while the first one lives, and welcome when it was killed."""
    outcome = Outcome()
    process = start([*new(kind, folder), *saves(iterations=10)])
    wait_for_lines(process, folder, 1)
    process.send_signal(signal.SIGSTOP)  # so that it is there however long the others take
    others = {"a second start": start(new(kind, folder)), "a second resume": start(["--resume", str(folder)])}
    for name, other in others.items():
        ended = end(other)
        outcome.counts["second trainer"] += 1
        outcome.violations += [f"{name}: {what}" for what in refusal(ended)]
    for part in (str(process.pid), socket.gethostname()):
        outcome.require(part in ended.stderr, f"{name}: no {part} in {ended.stderr!r}")
    process.kill()
    end(process)
    outcome.add(_finished(kind, folder, "after a second trainer"))
    return outcome


def refusal(ended: End) -> list[str]:
    """What is wrong with a refusal, which is one sentence on stderr and exit code 2."""
    wrong = [] if ended.code == 2 else [f"exit code {ended.code}"]
    told = ended.stderr.splitlines()
    if len(told) != 1 or not told[0].startswith("jaxpg: "):
        wrong.append(f"stderr is no single sentence: {ended.stderr!r}")
    return wrong


def _finished(kind: str, folder: Path, name: str) -> Outcome:
    """Resumes a run, or starts it anew where nothing of it is there yet, and compares it."""
    there = (folder / "config.yaml").exists()
    ended = finish(folder) if there else end(start([*new(kind, folder), *saves(iterations=25)]))
    return _compared(kind, folder, name, ended)


def _compared(kind: str, folder: Path, name: str, ended: End) -> Outcome:
    """What came of the run's last process."""
    outcome = Outcome()
    outcome.require(ended.code == 0, f"{name}: the last process ended with {ended.code}: {ended.stderr}")
    if ended.code == 0:
        found = differences(kind, folder)
        outcome.require(not found, f"{name}: {'; '.join(found[:4])}")
        outcome.counts["identical"] += not found
    return outcome
