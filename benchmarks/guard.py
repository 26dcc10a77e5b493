"""Checks that training has not become slower.

The guard compares the ratio of training speed to raw EnvPool's speed with the ratios recorded in ``guard.json``.

  python benchmarks/guard.py            measures and prints; exit code 1 if a ratio is below the noise three times
  python benchmarks/guard.py --record   measures several times and adds the ratios to the recorded ones

Only ratios of neighbouring turns are compared, never times, because a machine's speed changes from hour to hour. The
noise changes, too, so record each kind of machine in several different hours. On an unrecorded kind of machine the
guard measures nothing, says so and ends with 0. After a change that gains or costs speed, remove the kind from
``guard.json`` and record it again.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from throughput import recipe_flags
from turns import Contestant, rates

RECORD = Path(__file__).parent / "guard.json"
GUARDED = ("linear", "MLP", "Nature CNN")
GAME = "Pong"
REPEATS = 5
"""Number of measurements in one recording."""
ATTEMPTS = 3
"""Measurements in a row that must all be too slow before the guard fails."""
CPUINFO = Path("/proc/cpuinfo")
Ratios = dict[str, float]


class Recorded(NamedTuple):
    """Median and lowest value of the recorded ratios of one network."""

    ratio: float
    lowest: float

    @classmethod
    def of(cls, measured: list[float]) -> "Recorded":
        return cls(median(measured), min(measured))

    @property
    def least_allowed(self) -> float:
        """Lowest ratio that passes: twice as far below the median as the lowest recorded ratio."""
        return self.lowest - (self.ratio - self.lowest)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each; their median counts (default 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one turn (default 1)")
    parser.add_argument("--record", action="store_true", help="add to the ratios of this machine's kind")
    arguments = parser.parse_args()
    contestants = {GUARDED[0]: _pair(GUARDED[0])}
    facts = contestants[GUARDED[0]][0].facts
    described = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    kind = f"{facts['platform']} ({facts['device']}), {os.cpu_count()} cores, {processor(described)}"
    record = _records().get(kind)
    try:
        if record is None and not arguments.record:
            print(f"no ratios are recorded for {kind}, so nothing is measured; --record records them")
            return
        contestants |= {name: _pair(name) for name in GUARDED[1:]}
        measure = partial(_measure, contestants, arguments.rounds, arguments.seconds)
        if arguments.record:
            _record(kind, [measure() for _ in range(REPEATS)])
        else:
            sys.exit(_guard(kind, record, measure))
    finally:
        for pair in contestants.values():
            for contestant in pair:
                contestant.close()


def processor(cpuinfo: str) -> str:
    """The processor's model as Linux describes it: name, family and model number.

    The model matters, because a newer processor speeds up emulators and matrix products by different factors. The name
    alone is not enough, because virtual machines use the same name for several generations.
    """
    first_core, _, _ = cpuinfo.partition("\n\n")
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first_core.splitlines())}
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return ", ".join([facts["model name"], *numbers]) if "model name" in facts else platform.machine()


def _record(kind: str, measured: list[Ratios]) -> None:
    records = _records()
    before = records.get(kind, {}).get("ratios", {})
    ratios = {name: before.get(name, []) + [once[name] for once in measured] for name in GUARDED}
    records[kind] = {"date": time.strftime("%Y-%m-%d"), "game": GAME, "ratios": ratios}
    RECORD.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    print(f"{kind}: {ratios}")


def _guard(kind: str, record: dict[str, Any], measure: Callable[[], Ratios]) -> int:
    print(f"{GAME}, {kind}: training speed over raw EnvPool's, recorded {record['date']}", flush=True)
    recorded = {name: Recorded.of(measured) for name, measured in record["ratios"].items()}
    for _ in range(ATTEMPTS):  # a busy machine slows some attempts, slower code slows all
        lines, fell = compare(measure(), recorded)
        print(*lines, sep="\n", flush=True)
        if not fell:
            return 0
    return 1


def _records() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def compare(measured: Ratios, recorded: dict[str, Recorded]) -> tuple[list[str], list[str]]:
    """One line for each network, and the names of the networks whose ratio fell below the noise."""
    lines, fell = [], []
    for name, ratio in measured.items():
        before = recorded[name]
        word = "as before"
        if ratio < before.least_allowed:
            word = "FELL"
            fell.append(name)
        lines.append(f"{name}: {ratio:.3f}, recorded {before.ratio:.3f}, least {before.least_allowed:.3f}: {word}")
    return lines, fell


def _pair(name: str) -> tuple[Contestant, Contestant]:
    flags = recipe_flags(name, GAME)
    return Contestant("training", flags), Contestant("raw_envpool", flags)


def _measure(contestants: dict[str, tuple[Contestant, Contestant]], rounds: int, seconds: float) -> Ratios:
    ratios = {}
    for name, (training, raw) in contestants.items():
        turns = [(training.turn(seconds), raw.turn(seconds)) for _ in range(rounds)]
        ours, theirs = (rates(list(side)) for side in zip(*turns, strict=True))
        ratios[name] = median(a / b for a, b in zip(ours, theirs, strict=True))
    return ratios


if __name__ == "__main__":
    main()
