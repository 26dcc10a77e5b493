"""What the tests of training share: small runs, and how to read what they left."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg.train as train_module
from jaxpg.config import load_recipe
from jaxpg.core.user_modules import NOBODY, Trust
from jaxpg.experiment import build
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.writers import JsonLines
from jaxpg.train import main

LANES, ROLLOUT = 4, 8

PER_ITERATION = LANES * ROLLOUT

CARTPOLE = [
    *("--env.game", "CartPole-v1", "--observation.name", "vector", "--policy.hidden", "8"),
    *("--env.num-lanes", str(LANES), "--reinforce.rollout-agent-steps", str(ROLLOUT), "--env.num-threads", "1"),
    *("--optimizer.learning-rate", "5e-4"),  # so little that games stay short
]

ONE_ITERATION = [
    *("--env.game", "Count", "--env.backend", "probe", "--observation.name", "vector", "--policy.hidden", "4"),
    *("--env.num-lanes", "2", "--reinforce.rollout-agent-steps", "4", "--run.budget-agent-steps", "8"),
]
"""A run of one iteration that needs no emulator."""

RECORD = [
    *("iteration", "agent_steps", "frames", "episodes", "wall_seconds", "agent_steps_per_second", "return_mean_100"),
    *("policy_loss", "entropy", "gradient_norm"),
    *("emulate_seconds", "act_seconds", "learn_seconds", "other_seconds"),
]

PHASES = ("emulate_seconds", "act_seconds", "learn_seconds", "other_seconds")


def run(*argv: str, code: int = 0) -> None:
    """The command within this process."""
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == code


def cartpole(folder: Path, *argv: str, iterations: int = 12, code: int = 0) -> Path:
    """A run of some iterations on CartPole within this process."""
    run(
        *CARTPOLE,
        "--run.dir",
        str(folder),
        "--run.budget-agent-steps",
        str(iterations * PER_ITERATION),
        *argv,
        code=code,
    )
    return folder


@contextmanager
def nobody_reads_stdout() -> Iterator[None]:
    """As in ``| true``: stdout is a pipe whose reader has gone; fails where Python would end with 120."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield
        stream.flush()


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def games(folder: Path) -> list[dict]:
    with (folder / "episodes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(rows: list[dict]) -> list[dict]:
    """Rows without what a clock says."""
    return [{name: x for name, x in row.items() if "seconds" not in name and "per_second" not in name} for row in rows]


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def saved(folder: Path, trust: Trust = NOBODY) -> tuple[list[int], bytes, RunProgress]:
    """The checkpointed iterations, and the newest one's state as bytes and its progress."""
    experiment = build(load_recipe(folder / "config.yaml", trust))
    key = jax.random.key(0)
    like = jax.eval_shape(lambda: experiment.learner.init(key, experiment.policy.init(key)))
    checkpoints = Checkpoints(folder / "checkpoints", keep_newest=9)
    iterations = checkpoints.iterations()
    state, metadata = checkpoints.restore(iterations[-1], like)
    checkpoints.close()
    state = state._replace(key=jax.random.key_data(state.key))
    return iterations, b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)), metadata.progress


def check_whole(folder: Path, iterations: int | None = None) -> None:
    """Every iteration and every game stands in the files exactly once."""
    rows = records(folder)
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    assert iterations is None or len(rows) == iterations
    assert [row["agent_steps"] for row in rows] == [PER_ITERATION * row["iteration"] for row in rows]
    seconds = [row["wall_seconds"] for row in rows]
    assert seconds == sorted(seconds)
    played = games(folder)
    assert [row["episodes"] for row in rows] == [
        sum(int(game["agent_steps"]) <= row["agent_steps"] for game in played) for row in rows
    ]
    ends = [(int(game["agent_steps"]), int(game["lane"])) for game in played]
    assert ends == sorted(set(ends))
    for i, row in enumerate(rows):
        window = [float(game["return"]) for game in played[: row["episodes"]]][-100:]
        assert row["return_mean_100"] == (pytest.approx(sum(window) / len(window)) if window else None), i


def change_tell(monkeypatch, change) -> None:
    """Lets ``change(state, metrics)`` have the last word in every update."""
    original = train_module.build

    def changed(config, team):
        experiment = original(config, team=team)
        tell = experiment.learner.tell
        return experiment._replace(learner=experiment.learner._replace(tell=lambda *args: change(*tell(*args))))

    monkeypatch.setattr(train_module, "build", changed)


class Signals:
    """A writer that sends this process a signal in the middle of an iteration."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def send(self, number: int, iteration: int) -> None:
        write = JsonLines.write

        def write_then_signal(writer, record, episodes):
            write(writer, record, episodes)
            if record["iteration"] == iteration:
                os.kill(os.getpid(), number)

        self._monkeypatch.setattr(JsonLines, "write", write_then_signal)

    def stop(self) -> None:
        self._monkeypatch.undo()
