"""Measures how long a recipe takes to reach a score: seconds and agent steps of several seeds, and their medians.

  python benchmarks/time_to_score.py configs/pong.yaml --target 18 --seeds 1 2 3 -- --env.num-threads 2

The trainings run one after another. Each training runs until its last 100 games average the target, or until the
recipe's budget is used. A seed that never reaches the target counts as infinity. Every training gets the arguments
after ``--``; other settings need another ``--out``. A second call continues where the first one stopped: it resumes an
unfinished run and does not repeat a finished one. Seconds are the run's ``wall_seconds``: all iterations, without the
start of the command and the saving of checkpoints. The first iteration includes compilation, which later seeds mostly
find in the cache. Writes
``time_to_score.md``, ``time_to_score.json`` and ``time_to_score.png`` beside the folder of the runs.
"""

import argparse
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax
import numpy as np
from trainings import split_argv, train

from jaxpg.cli import parse_train
from jaxpg.config import Config
from jaxpg.machine.durable_files import write_json, write_text
from jaxpg.viewing.run_log import read_run

Record = dict[str, float | int | None]
"""The metrics of one iteration of a run."""

GAMES = 100
"""Number of games whose mean return counts."""


class Outcome(NamedTuple):
    """The result of one seed's run. Agent steps and seconds are infinite if it never reached the target."""

    seed: int
    agent_steps: float
    seconds: float
    final_mean: float | None
    """Mean return of the last 100 games, or of all games if there are fewer. None if there are no games."""

    @property
    def reached(self) -> bool:
        """Whether the target was reached."""
        return math.isfinite(self.seconds)


def main() -> None:
    """Runs the command."""
    own, behind = split_argv(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipe = "configs/pong.yaml"
    parser.add_argument("recipe", nargs="?", type=Path, default=recipe, help=f"YAML recipe (default {recipe})")
    parser.add_argument("--target", type=float, default=18.0, help="mean return of 100 games to reach (default 18)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for runs and results")
    arguments = parser.parse_args(own)
    target = arguments.target
    records: dict[int, list[Record]] = {}
    outcomes: list[Outcome] = []
    for seed in arguments.seeds:
        folder = arguments.out / "time_to_score" / f"{arguments.recipe.stem}-{target:g}-{seed}"
        flags = ["--run.seed", str(seed), "--run.target-return", str(target)]
        train(folder, arguments.recipe, flags, behind)
        run = read_run(str(folder))
        if _settings(run.config) != _settings(parse_train([str(arguments.recipe), *flags, *behind]).config):
            sys.exit(f"{folder}: a run with other settings; remove it or choose another --out")
        for remark in run.remarks:
            print(f"{folder}: {remark}", flush=True)
        records[seed] = run.records
        outcomes.append(outcome(seed, run.records, target))
        print(_line(outcomes[-1]), flush=True)
    device = jax.devices()[0]  # only now: some accelerators admit a single process, which the trainings were
    machine = f"{device.platform} ({device.device_kind}), {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    title = f"{' '.join([arguments.recipe.name, *behind])}, {machine}"
    table = make_table(outcomes, target, title)
    write_text(arguments.out / "time_to_score.md", table + "\n")
    write_json(arguments.out / "time_to_score.json", _content(outcomes, target, title))
    _draw(records, target, title, arguments.out / "time_to_score.png")
    print(table)


def outcome(seed: int, records: list[Record], target: float) -> Outcome:
    """Finds the first iteration at which the last 100 games average the target or more. Fewer games do not count."""
    final_mean = records[-1]["return_mean_100"] if records else None
    for record in records:
        mean, games = record["return_mean_100"], record["episodes"]
        if mean is not None and games is not None and games >= GAMES and mean >= target:
            return Outcome(seed, float(record["agent_steps"] or 0), float(record["wall_seconds"] or 0), final_mean)
    return Outcome(seed, math.inf, math.inf, final_mean)


def make_table(outcomes: list[Outcome], target: float, title: str) -> str:
    """Table with one row for each seed and one row of medians."""
    lines = [
        f"{title}. Until {GAMES} games average {target:g}:",
        "",
        f"| seed | agent steps | seconds | mean of the last {GAMES} games at the end | reached |",
        "|---|---|---|---|---|",
        *(_line(one) for one in outcomes),
    ]
    agent_steps, seconds = medians(outcomes)
    reached = sum(one.reached for one in outcomes)
    lines.append(f"| median | {_number(agent_steps)} | {_number(seconds)} | | {reached} of {len(outcomes)} |")
    return "\n".join(lines)


def medians(outcomes: list[Outcome]) -> tuple[float, float]:
    """Medians of agent steps and of seconds. Infinite if at least half of the seeds never reached the target."""
    return median(one.agent_steps for one in outcomes), median(one.seconds for one in outcomes)


def _settings(config: Config) -> Config:
    """All settings except the run folder."""
    return replace(config, run=replace(config.run, dir=""))


def _line(one: Outcome) -> str:
    mean = "-" if one.final_mean is None else f"{one.final_mean:.2f}"
    reached = "yes" if one.reached else "no"
    return f"| {one.seed} | {_number(one.agent_steps)} | {_number(one.seconds)} | {mean} | {reached} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "never"


def _content(outcomes: list[Outcome], target: float, title: str) -> dict[str, object]:
    """The results as JSON values. JSON has no infinity, so infinity becomes null."""
    agent_steps, seconds = (_finite(value) for value in medians(outcomes))
    seeds = [
        {**one._asdict(), "agent_steps": _finite(one.agent_steps), "seconds": _finite(one.seconds)} for one in outcomes
    ]
    found = {"median_agent_steps": agent_steps, "median_seconds": seconds}
    return {"run": title, "target_return": target, **found, "seeds": seeds}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _draw(records: dict[int, list[Record]], target: float, title: str, path: Path) -> None:
    """Draws the learning curves over wall-clock seconds, and the target."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for seed, rows in records.items():
        points = [(row["wall_seconds"], row["return_mean_100"]) for row in rows if row["return_mean_100"] is not None]
        axes.plot(*np.array(points, float).reshape(-1, 2).T, label=f"seed {seed}")
    axes.axhline(target, linestyle="--", color="black", label=f"target {target:g}")
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"mean return of the last {GAMES} games")
    axes.set_title(title, fontsize="medium")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
