"""Measures the seconds from the start of the command to the end of the first iteration.

Each round starts ``python -m jaxpg.train`` twice: with an empty compilation cache (cold), then with the cache that the
first start has filled (warm). Prints a table.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of a cold and a warm start (default 3)")
    parser.add_argument("flags", nargs="*", help="recipe and flags for the training command, after --")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(arguments.rounds):
        for (cache, values), measured in zip(seconds.items(), seconds_to_first_iteration(arguments.flags), strict=True):
            values.append(measured)
            print(f"{cache} {measured:.1f} s", flush=True)
    print("\n| start | minimum | median | maximum |\n|---|---|---|---|")
    for cache, values in seconds.items():
        print(f"| {cache} cache | {min(values):.1f} s | {statistics.median(values):.1f} s | {max(values):.1f} s |")


def seconds_to_first_iteration(flags: list[str]) -> tuple[float, float]:
    """Seconds of a start with an empty compilation cache, and of a second start with the filled cache."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        return _start(home, home / "cold", flags), _start(home, home / "warm", flags)


def _start(home: Path, run: Path, flags: list[str]) -> float:
    """Starts a training, waits for its first line of metrics, ends it, and returns the seconds until that line."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(home / "cache")}
    command = [sys.executable, "-m", "jaxpg.train", *flags, "--run.dir", str(run)]
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        metrics = run / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        process.terminate()
    if process.returncode != 143:
        sys.exit(f"the training command ended with code {process.returncode}")
    return seconds


if __name__ == "__main__":
    main()
