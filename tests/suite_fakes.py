"""A program in place of ``python -m jaxpg``: trains and evaluates in no time, and writes what the real one writes."""

import json
import sys
from pathlib import Path

import pytest

from jaxpg.suite import works

PROGRAM = r"""
import json, os, signal, sys, time

command, *words = sys.argv[1:]
flags = dict(zip(words[1:-1], words[2:])) if command != "jaxpg.train" or words[0] != "--resume" else {}
notes = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "calls")
with open(notes, "a") as file:
    file.write(json.dumps([command, *words]) + "\n")

def write(path, content):  # whole or not at all, whenever a signal comes
    with open(path + ".new", "w") as file:
        file.write(content)
    os.replace(path + ".new", path)

def value(text, name):
    return next(line.split(":")[1].strip() for line in text.splitlines() if line.strip().startswith(name + ":"))

if command == "jaxpg.report":
    write(flags["--out"], "page")
elif command == "jaxpg.evaluate":
    path = os.path.join(words[0], "evaluation.json")
    there = json.load(open(path)) if os.path.exists(path) else []
    seed = int(flags["--seed"])
    there.append({
        "checkpoint": 2, "actions": flags["--actions"], "seed": seed, "env": {"game": "Pong"}, "episodes": 5,
        "distinct": 5, "cut": 0, "mean": float(seed), "mean_low": None, "mean_high": None, "median": 0.0, "iqm": 0.0,
        "min": 0.0, "max": 0.0, "human_normalized": seed / 10, "seconds": 1.0, "agent_steps": 5,
        "returns": [0.0], "lengths_agent_steps": [1],
    })
    write(path, json.dumps(there))
else:
    resumed = words[0] == "--resume"
    folder = words[1] if resumed else flags["--run.dir"]
    if not resumed:
        os.makedirs(folder, exist_ok=True)  # a signal may have come before the configuration
        write(os.path.join(folder, "config.yaml"), open(words[0]).read())
    recipe = open(os.path.join(folder, "config.yaml")).read()
    asked = words[words.index("--run.budget-agent-steps") + 1] if resumed else value(recipe, "budget_agent_steps")
    budget = int(asked)
    rate, seed = float(value(recipe, "learning_rate")), int(value(recipe, "seed"))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    if os.path.exists(notes + ".wait") and not resumed:
        write(notes + ".pid", str(os.getpid()))
        time.sleep(60)
    if rate > 0.8:
        sys.exit(1)
    if rate > 0.5:
        print("jaxpg: a weight became NaN", file=sys.stderr)
        sys.exit(2)
    lines = []
    for i in (1, 2, 3, 4):
        gain = seed - 100 * abs(rate - 0.01)
        line = {"agent_steps": budget * i / 4, "wall_seconds": i, "episodes": 50 * i}
        lines.append({**line, "return_mean_100": gain * i})
    slow = os.path.exists(notes + ".slow") and rate > 0.05
    lines = lines[:2] if slow else lines
    write(os.path.join(folder, "metrics.jsonl"), "".join(json.dumps(line) + "\n" for line in lines))
    if slow:
        time.sleep(60)
    end = {"ended": "budget of agent steps used", "agent_steps": budget, "wall_seconds": 4, "iteration": 2}
    write(os.path.join(folder, "summary.json"), json.dumps({**end, "best_iteration": 2}))
"""
"""The mean return grows in a line with the agent steps, to 4 (seed - 100 |learning rate - 0.01|)."""


class FakeProgram:
    """The program in a folder of its own, and how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        folder.mkdir()
        script = folder / "program.py"
        script.write_text(PROGRAM)
        self._calls = folder / "calls"
        monkeypatch.setattr(works, "module_command", lambda name: [sys.executable, "-I", "-S", str(script), name])

    def calls(self) -> list[list[str]]:
        """The command lines since the last call of this method."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def let_new_trainings_wait(self, waits: bool) -> None:
        """Lets new trainings wait for SIGTERM, after which they have left only their configuration."""
        path = self._calls.with_name("calls.wait")
        path.touch() if waits else path.unlink()

    def slow_down_bad_trainings(self) -> None:
        """Lets trainings with a large learning rate stop half-way and wait for SIGTERM."""
        self._calls.with_name("calls.slow").touch()

    @property
    def waiting(self) -> int | None:
        """Process id of a training that waits."""
        path = self._calls.with_name("calls.pid")
        return int(path.read_text() or 0) if path.exists() else None
