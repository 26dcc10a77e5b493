"""Tests whether a search's returns and another program's returns have the same distribution.

Prints means and quantiles, and a two-sample test.

The reference is a JSON file with a list ``returns``, the return of one game of each candidate. Only the search's first
round is compared: the first game of every candidate in ``episodes.csv``.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a random search")
    parser.add_argument("reference", type=Path, help="JSON file with the other program's returns")
    arguments = parser.parse_args()
    first: dict[str, float] = {}
    with (arguments.run / "episodes.csv").open(newline="") as file:
        for game in csv.DictReader(file):
            first.setdefault(game["candidate"], float(game["return"]))
    ours, theirs = np.array(list(first.values())), np.array(json.loads(arguments.reference.read_text())["returns"])
    quantiles = [5, 25, 50, 75, 95, 99, 100]
    for name, returns in (("this run", ours), ("reference", theirs)):
        error = returns.std(ddof=1) / np.sqrt(len(returns))
        spread = "/".join(f"{q:.0f}" for q in np.percentile(returns, quantiles))
        print(f"{name}: {len(returns)} candidates, mean {returns.mean():.1f} +- {error:.1f}; percentiles {spread}")
    error = np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    test = ks_2samp(ours, theirs)
    print(f"difference of the means: {abs(ours.mean() - theirs.mean()) / error:.2f} standard errors")
    print(f"Kolmogorov-Smirnov: statistic {test.statistic:.3f}, p = {test.pvalue:.3f}")


if __name__ == "__main__":
    main()
