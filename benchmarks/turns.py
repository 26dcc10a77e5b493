"""What the speed benchmarks share: contestants take turns within one run, and a table is made of their speeds."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from jaxpg.config import Config

Done = dict[str, float]
"""One turn of a contestant: its seconds, what it did in them, and where they went."""

Row = dict[str, float]
"""One round: speeds in agent steps per second, and shares, which are small."""


PHASES = ("emulate", "act", "learn", "other")
"""Where a turn's seconds go."""


class Contestant:
    """A process of ``contestant.py``, or of another script that speaks like it, that works when it is its turn."""

    def __init__(self, kind: str, argv: list[str], script: str = "contestant.py"):
        command = [sys.executable, str(Path(__file__).parent / script), kind, *argv]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts: dict[str, Any] = self._read()

    def turn(self, seconds: float) -> Done:
        """Works for so long and says what was done."""
        assert self._process.stdin
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a contestant ended with code {self._process.wait()}")
        return json.loads(line)


def rates(done: list[Done]) -> list[float]:
    """Agent steps per second of each turn."""
    return [turn["agent_steps"] / turn["seconds"] for turn in done]


def phase_seconds(turn: Done, phase: str) -> float:
    """What a phase took of a turn; ``other`` is what the named ones leave."""
    return turn[phase] if phase in turn else turn["seconds"] - sum(turn[p] for p in PHASES if p in turn)


def parse_turns(description: str | None, default_recipe: str) -> argparse.Namespace:
    """Reads the command line: ``recipe``, ``rounds``, ``seconds`` and ``out``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=default_recipe, help=f"YAML recipe (default {default_recipe})")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of one turn (default 12)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    return parser.parse_args()


def say(row: Row) -> None:
    """Prints one round."""
    print("  ".join(f"{name} {_short(value)}" for name, value in row.items()), flush=True)


def report(config: Config, rows: list[Row], folder: Path, name: str) -> None:
    """Prints the table and writes it as ``name.md``, the rows as ``name.json``."""
    device = jax.devices()[0]
    machine = f"{device.platform} ({device.device_kind}), {os.cpu_count()} cores"
    lines = [
        f"{config.env.game}, {config.env.num_lanes} lanes, policy {config.policy.name}, {machine}, "
        f"{time.strftime('%Y-%m-%d')}",
        "",
        "| | minimum | median | maximum |",
        "|---|---|---|---|",
    ]
    for column in rows[0]:
        values = [row[column] for row in rows]
        numbers = [min(values), statistics.median(values), max(values)]
        lines.append(f"| {column} | {' | '.join(map(_short, numbers))} |")
    table = "\n".join(lines)
    content: dict[str, Any] = {"machine": machine, "rows": rows}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(table + "\n", encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(table)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value > 100 else f"{value:.3f}"
