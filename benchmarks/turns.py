"""Shared code of the speed benchmarks: lets contestants take turns and makes a table of their speeds."""

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
"""The result of one turn of a contestant: its seconds, the work done, and the seconds of each phase."""

Row = dict[str, float]
"""The result of one round: speeds in agent steps per second, and shares between 0 and 1."""


PHASES = ("emulate", "act", "learn", "other")
"""Phases into which the seconds of a turn are divided."""


class Contestant:
    """A process that runs ``contestant.py``, or another script with the same protocol, and works when told to."""

    def __init__(
        self,
        kind: str,
        argv: list[str],
        script: str = "contestant.py",
        python: str = sys.executable,
        variables: dict[str, str] | None = None,
    ):
        command = [python, str(Path(__file__).parent / script), kind, *argv]
        environment = {**os.environ, **(variables or {})}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.facts: dict[str, Any] = self._read()

    def turn(self, seconds: float) -> Done:
        """Lets the contestant work for ``seconds`` and returns the work done."""
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
    """Seconds of a turn that a phase took. ``other`` is the time that the named phases leave."""
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
    """Prints the table, and writes the table to ``name.md`` and the rows to ``name.json``."""
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
