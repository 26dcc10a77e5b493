"""Trains a recipe on several games with several seeds, one run after another, and makes a table of their scores.

  python benchmarks/atari_suite.py configs/atari.yaml --games Pong Breakout --seeds 1 2 3 -- --run.budget-seconds 3600

Every training gets the arguments after ``--``. A second call continues where the first one stopped: it resumes an
unfinished run and does not repeat a finished one. Then each run's newest policy plays whole games. A game's score is
the mean over the seeds of each seed's mean return, with Student's 95 % interval over the seeds. The human-normalised
score is given, too. Writes ``atari_suite.md`` and ``atari_suite.json`` beside the run folders.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from trainings import call, read_summary, split_argv, train

from jaxpg.viewing.run_log import read_run


def main() -> None:
    """Runs the command."""
    own, behind = split_argv(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path, help="YAML recipes")
    parser.add_argument("--games", nargs="+", required=True, help="games such as Pong")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=100, help="games that each finished policy plays (default 100)")
    parser.add_argument("--out", type=Path, default=Path("runs/atari_suite"), help="folder of the runs and the table")
    arguments = parser.parse_args(own)
    for recipe in arguments.recipes:
        for game in arguments.games:
            for seed in arguments.seeds:
                folder = arguments.out / f"{recipe.stem}-{game}-{seed}"
                train(folder, recipe, ["--env.game", game, "--run.seed", str(seed)], behind)
                _evaluate(folder, arguments.episodes)
                _write_table(arguments.out)


def _evaluate(folder: Path, episodes: int) -> None:
    iteration = read_summary(folder)["iteration"]
    if not any(e.checkpoint == iteration and e.episodes >= episodes for e in read_run(str(folder)).evaluations):
        call("evaluate", str(folder), "--episodes", str(episodes))


def _write_table(out: Path) -> None:
    """Writes a table with one row per recipe and game. Only runs whose newest policy was evaluated count."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for folder in sorted(path.parent for path in out.glob("*/summary.json")):
        summary = read_summary(folder)
        run = read_run(str(folder))
        newest = [e for e in run.evaluations if e.checkpoint == summary["iteration"]]
        if newest:
            game, seed = run.config.env.game, run.config.run.seed
            recipe = folder.name.removesuffix(f"-{game}-{seed}")
            numbers = {"agent_steps": summary["agent_steps"], "seconds": summary["wall_seconds"]}
            most = max(newest, key=lambda e: e.episodes)
            scores = {"mean": most.mean, "human_normalized": most.human_normalized}
            groups.setdefault((recipe, game), []).append({"seed": seed, **scores, **numbers})
    lines = [
        "| recipe | game | seeds | mean | 95 % interval | human-normalised | agent steps | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (recipe, game), runs in groups.items():
        means, steps, seconds = (np.array([run[key] for run in runs]) for key in ("mean", "agent_steps", "seconds"))
        band = "-"
        if len(means) > 1 and np.ptp(means) > 0:
            low, high = stats.t.interval(0.95, len(means) - 1, loc=means.mean(), scale=stats.sem(means))
            band = f"{low:,.1f} to {high:,.1f}"
        normalized = [run["human_normalized"] for run in runs]
        share = "-" if None in normalized else f"{np.mean(normalized):.1%}"
        lines.append(
            f"| {recipe} | {game} | {len(runs)} | {means.mean():,.1f} | {band} | "
            f"{share} | {steps.mean() / 1e6:.2f}M | {seconds.mean() / 60:.1f} |"
        )
    table = "\n".join(lines)
    (out / "atari_suite.md").write_text(table + "\n", encoding="utf-8")
    rows = [{"recipe": recipe, "game": game, "runs": runs} for (recipe, game), runs in groups.items()]
    (out / "atari_suite.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table, flush=True)


if __name__ == "__main__":
    main()
