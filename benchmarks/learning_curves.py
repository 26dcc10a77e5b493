"""Draws the learning curves of finished or growing runs into one PNG: return against agent steps and time."""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--target", type=float, help="return to mark with a line")
    arguments = parser.parse_args()
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for run in arguments.runs:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [r for r in map(json.loads, lines) if r["return_mean_100"] is not None]
        returns = [r["return_mean_100"] for r in records]
        axes[0].plot([r["agent_steps"] / 1e6 for r in records], returns, label=run.name)
        axes[1].plot([r["wall_seconds"] / 60 for r in records], returns, label=run.name)
    axes[0].set(xlabel="agent steps (millions)", ylabel="mean return of the last 100 games")
    axes[1].set(xlabel="minutes")
    for axis in axes:
        axis.grid(alpha=0.3)
        if arguments.target is not None:
            axis.axhline(arguments.target, color="black", linewidth=0.8, linestyle="--")
    axes[0].legend(frameon=False)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=110)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
