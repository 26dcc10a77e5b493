"""Random search against the loop that most people write: one Gymnasium environment, one product a step.

Both play Ms. Pac-Man with random linear policies on 33,600 gray pixels, in turns within one run. Prints a table and
writes ``search_speed.json`` and ``search_speed.md``. Speeds are agent steps per second; the lane utilisation is the
share of jaxpg's agent steps that belong to a candidate's game, while the queue has games to give.
"""

import argparse
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import jax
import numpy as np

from jaxpg.candidates import CandidateQueue
from jaxpg.config import Config, load_recipe
from jaxpg.experiment import build, lane_seeds


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="configs/mspacman_random_search.yaml")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of one turn (default 12)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    config = load_recipe(Path(arguments.recipe))
    loop, search = _loop(), _Search(config)
    search.turn(1.0)  # compiles
    rows: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        speed = loop(arguments.seconds)
        row = {"notebook loop": speed, "jaxpg": search.turn(arguments.seconds)}
        row["ratio"] = row["jaxpg"] / row["notebook loop"]
        row["lane utilisation"] = search.utilisation
        rows.append(row)
        print("  ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
    _report(config, rows, arguments.out)


def _loop():
    """One environment, the newest frame times the weights, the largest product's action."""
    gymnasium.register_envs(ale_py)
    env = gymnasium.wrappers.GrayscaleObservation(gymnasium.make("ALE/MsPacman-v5"))
    rng = np.random.default_rng(0)

    def turn(seconds: float) -> float:
        weights = rng.random((33_600, 9), dtype=np.float32)
        state, _ = env.reset(seed=0)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            action = np.argmax(state.reshape(-1).astype(np.float32) @ weights)
            state, _, terminated, truncated, _ = env.step(action)
            count += 1
            if terminated or truncated:
                weights = rng.random((33_600, 9), dtype=np.float32)
                state, _ = env.reset()
        return count / (time.perf_counter() - start)

    return turn


class _Search:
    """The command's own loop over an endless queue of candidates."""

    def __init__(self, config: Config):
        self._experiment = build(config)
        init_key, learner_key, self._key = jax.random.split(jax.random.key(0), 3)
        learner = self._experiment.learner
        self._state = learner.init(learner_key, self._experiment.policy.init(init_key))
        self._experiment.rollout.reset(lane_seeds(1, 0, config.env.num_lanes))
        self._queue = CandidateQueue(np.arange(10**6), config.env.num_lanes, partial(learner.ask, self._state))
        self.utilisation = 0.0
        """Of the last turn."""

    def turn(self, seconds: float) -> float:
        start, count, useful = time.perf_counter(), 0, 0
        while time.perf_counter() - start < seconds:
            experience, _ = self._experiment.rollout.collect(
                self._queue, self._experiment.rollout_agent_steps, self._key
            )
            count += experience.acted.size
            useful += experience.acted.sum()
        self.utilisation = useful / count
        return count / (time.perf_counter() - start)


def _report(config: Config, rows: list[dict[str, Any]], folder: Path) -> None:
    device = jax.devices()[0]
    machine = f"{device.platform} ({device.device_kind}), {os.cpu_count()} cores"
    lines = [
        f"{config.env.game}, {config.env.num_lanes} lanes, {machine}, {time.strftime('%Y-%m-%d')}",
        "",
        "| | minimum | median | maximum |",
        "|---|---|---|---|",
    ]
    for name in rows[0]:
        values = [row[name] for row in rows]
        numbers = [min(values), statistics.median(values), max(values)]
        lines.append(f"| {name} | {' | '.join(f'{n:,.0f}' if n > 100 else f'{n:.3f}' for n in numbers)} |")
    table = "\n".join(lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search_speed.md").write_text(table + "\n", encoding="utf-8")
    (folder / "search_speed.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    print(table)


if __name__ == "__main__":
    main()
