"""Measures the seconds from the start of the command to the end of the first iteration.

  python benchmarks/startup.py -- pong
  python benchmarks/startup.py --phases -- pong

Each round starts a training twice: with an empty compilation cache (cold), then with the cache that the first start has
filled (warm). Prints a table: of ``python -m jaxpg.train`` as a whole, or with ``--phases`` of where the seconds go,
those of the clock and those of the processor. The latter also say something on a busy machine.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import wraps
from pathlib import Path
from typing import Any

Phases = dict[str, tuple[float, float]]
"""Seconds of the clock and of the processor that each phase of a start takes."""
COMPILE_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling, or reading from the cache",
}
"""What JAX says about its compilations, which lie within the phases. Some run at the same time as others."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of a cold and a warm start (default 3)")
    parser.add_argument("--phases", action="store_true", help="where the seconds go")
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help="recipe and flags for the training command, after --")
    arguments = parser.parse_args()
    if arguments.child:
        _watch_phases(arguments.flags, arguments.child)
    elif arguments.phases:
        print(phase_table([_pair(_phases, arguments.flags) for _ in range(arguments.rounds)]))
    else:
        _whole(arguments.flags, arguments.rounds)


def _whole(flags: list[str], rounds: int) -> None:
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        for (cache, values), measured in zip(seconds.items(), seconds_to_first_iteration(flags), strict=True):
            values.append(measured)
            print(f"{cache} {measured:.1f} s", flush=True)
    print("\n| start | minimum | median | maximum |\n|---|---|---|---|")
    for cache, values in seconds.items():
        print(f"| {cache} cache | {min(values):.1f} s | {statistics.median(values):.1f} s | {max(values):.1f} s |")


def seconds_to_first_iteration(flags: list[str]) -> tuple[float, float]:
    """Seconds of a start with an empty compilation cache, and of a second start with the filled cache."""
    cold, warm = _pair(_start, flags)
    return cold, warm


def _pair(start: Any, flags: list[str]) -> tuple[Any, Any]:
    """What ``start(home, run folder, flags)`` returns with an empty compilation cache, and then with the filled one."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        return start(home, home / "cold", flags), start(home, home / "warm", flags)


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


def _phases(home: Path, run: Path, flags: list[str]) -> Phases:
    """Starts a training in a process that looks at the clocks, and returns its phases."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(home / "cache")}
    command = [sys.executable, __file__, "--child", str(time.time()), "--", *flags, "--run.dir", str(run)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    phases: Phases = json.loads(done.stdout.splitlines()[-1])
    return phases


def _watch_phases(flags: list[str], started: float) -> None:
    """Trains until the end of the first iteration, and prints the phases as JSON."""
    marks = [("", started, 0.0)]

    def mark(name: str) -> None:
        marks.append((name, time.time(), time.process_time()))

    mark("Python")
    import jaxpg
    from jaxpg.cli import parse_train
    from jaxpg.kernel.rollout import Rollout

    start_training = jaxpg.train
    module: Any = sys.modules[start_training.__module__]
    mark("imports")
    config = parse_train(flags).config
    mark("recipe and flags")
    import jax

    seconds, counts = Counter[str](), Counter[str]()

    def note(event: str, duration: float, **details: object) -> None:
        if event in COMPILE_EVENTS:
            seconds[COMPILE_EVENTS[event]] += duration
            counts[COMPILE_EVENTS[event]] += 1

    jax.monitoring.register_event_duration_secs_listener(note)
    reset, build = Rollout.reset, module.build

    @wraps(build)
    def marked_build(*arguments: Any, **options: Any) -> Any:
        built = build(*arguments, **options)
        mark("device, one emulator, network and checks")
        return built

    def marked_reset(*arguments: Any) -> None:
        mark("folder and first weights")
        reset(*arguments)
        mark("emulators of all lanes")

    def end(*arguments: Any) -> None:
        mark("first iteration")
        pairs = itertools.pairwise(marks)
        phases = {
            name: (wall - wall_before, cpu - cpu_before) for (_, wall_before, cpu_before), (name, wall, cpu) in pairs
        }
        phases["all"] = marks[-1][1] - started, marks[-1][2]
        within = {f"within: {name} ({counts[name]} times)": (seconds[name], 0.0) for name in seconds}
        print(json.dumps(phases | within), flush=True)
        os._exit(0)

    module.build, Rollout.reset = marked_build, marked_reset  # type: ignore[method-assign]
    start_training(config, callbacks=[end])


def phase_table(rounds: list[tuple[Phases, Phases]]) -> str:
    """A table of the medians over the rounds, in which phases follow each other."""
    lines = ["| phase | cold, s | of processor | warm, s | of processor |", "|---|---|---|---|---|"]
    names = dict.fromkeys(name for pair in rounds for phases in pair for name in phases)
    for name in names:
        numbers = [
            statistics.median(pair[start].get(name, (0.0, 0.0))[clock] for pair in rounds)
            for start in (0, 1)
            for clock in (0, 1)
        ]
        lines.append(f"| {name} | " + " | ".join(f"{number:.2f}" if number else "" for number in numbers) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
