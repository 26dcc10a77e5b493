"""Makes all figures of an accelerator with one command, in ten minutes by default.

  python benchmarks/accelerator.py --minutes 10

Each section has a share of the time and runs in a process of its own, because JAX takes the device for one process.
Whatever time a section leaves is the others'. Writes ``accelerator.md`` and ``accelerator.json`` after each section,
and the output of each section to ``accelerator/NAME.log``. A section that fails, or that is still running when its time
is over, is reported with the rows that it has made, the next one begins, and the exit code is 1. It also runs on a CPU.
The machine should do nothing else meanwhile.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from jax_envs import flags as jax_flags
from throughput import NETWORKS, recipe_flags
from time_to_score import outcome
from trainings import call
from turns import Contestant, Done, rates

import jaxpg
from jaxpg.cli import parse_train
from jaxpg.viewing.run_log import read_run

Row = dict[str, Any]
Side = tuple[str, list[str], dict[str, str]]
"""A contestant: its kind, its arguments, and variables of its environment."""
TURNS = 3
"""Turns of each contestant; medians are reported."""
SHORTEST_TURN_SECONDS, LONGEST_TURN_SECONDS = 0.5, 3.0
START_SECONDS = 20.0
"""Time of a training's start, its compilation and its end."""
RESERVE = 0.85
"""Share of a section's time that it plans with; the rest is for starts and ends that take longer."""
GAMES = ("CartPole-v1", "Breakout-MinAtar")
RESUMED = {"emulators": ["pong"], "environments in JAX": ["cartpole", "--env.backend", "gymnax"]}
TARGET = 18.0
GAMES_PLAYED = 8
"""Games of an evaluation."""


class Asked(NamedTuple):
    """What the sections are to measure."""

    game: str
    networks: list[str]
    lanes: list[int]
    members: list[int]
    runs: Path
    """Folder for runs, which the sections share."""


def device(asked: Asked, seconds: float) -> Iterator[Row]:
    """What the device is, and its highest rates."""
    contestant = Contestant("machine", [])
    done = [contestant.turn(_turn_seconds(seconds / 2, TURNS)) for _ in range(TURNS)]
    contestant.close()
    yield {
        "platform": contestant.facts["platform"],
        "device": contestant.facts["device"],
        "cores": os.cpu_count(),
        "JAX": jax.__version__,
        "GFLOP/s in products": median(turn["operations_per_second"] for turn in done) / 1e9,
        "GB/s read": median(turn["bytes_per_second"] for turn in done) / 1e9,
    }


def throughput(asked: Asked, seconds: float) -> Iterator[Row]:
    """Training of each network beside EnvPool alone with the emulators of its recipe."""
    raws = {NETWORKS[name][0]: name for name in asked.networks}
    for lanes in asked.lanes:
        sides = {name: _training(name, asked.game, lanes) for name in asked.networks}
        sides |= {recipe: ("raw_envpool", _training(name, asked.game, lanes)[1], {}) for recipe, name in raws.items()}
        share = math.sqrt(lanes) / sum(map(math.sqrt, asked.lanes))  # more emulators take longer to start
        speeds = measured(sides, seconds * share)
        for name in asked.networks:
            speed, raw = speeds[name], speeds[NETWORKS[name][0]]
            yield {"network": name, "lanes": lanes, **_speed(speed), "raw EnvPool": raw, "ratio": speed / raw}


def overlap(asked: Asked, seconds: float) -> Iterator[Row]:
    """One pool of lanes, and two pools that are emulated and acted for in turns."""
    lanes = _middle(asked.lanes)
    each = {
        (name, pools): _training(name, asked.game, lanes, "--env.num-pools", str(pools))
        for name in asked.networks
        for pools in (1, 2)
    }
    for (name, pools), speed in measured(each, seconds).items():
        yield {"network": name, "lanes": lanes, "pools": pools, **_speed(speed)}


def precision(asked: Asked, seconds: float) -> Iterator[Row]:
    """Products of float32, of float32 that NVIDIA's newer GPUs round to TF32, and of bfloat16."""
    lanes = _middle(asked.lanes)
    rounded = {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}
    each: dict[tuple[str, str], Side] = {}
    for name in asked.networks:
        kind, flags, _ = _training(name, asked.game, lanes)
        each[name, "float32"] = kind, flags, {}
        each[name, "TF32"] = kind, flags, rounded
        each[name, "bfloat16"] = kind, [*flags, "--policy.precision", "bfloat16"], {}
    for (name, kept), speed in measured(each, seconds).items():
        yield {"network": name, "lanes": lanes, "products": kept, **_speed(speed)}


def jax_environments(asked: Asked, seconds: float) -> Iterator[Row]:
    """Members that train side by side in one program, each in 64 lanes of its own."""
    for members in asked.members:
        sides: dict[str, Side] = {game: ("members", [str(members), *jax_flags(game)], {}) for game in GAMES}
        for game, speed in measured(sides, seconds / len(asked.members)).items():
            yield {"game": game, "members": members, **_speed(speed)}


def pong(asked: Asked, seconds: float) -> Iterator[Row]:
    """The recipe ``pong`` until its last 100 games average 18, or until the time is over."""
    folder = asked.runs / "pong"
    ends = {"--run.target-return": TARGET, "--run.budget-seconds": max(seconds - START_SECONDS, 1.0)}
    call("train", "pong", "--run.dir", str(folder), *(word for end in ends.items() for word in map(str, end)))
    records = read_run(str(folder)).records
    reached = outcome(1, records, TARGET)
    yield {
        "target": TARGET,
        "reached": reached.reached,
        "seconds": records[-1]["wall_seconds"],
        "agent steps": records[-1]["agent_steps"],
        "mean of the last 100 games": reached.final_mean,
    }


def resume(asked: Asked, seconds: float) -> Iterator[Row]:
    """A run that is ended and resumed twice, compared with one that is not."""
    jax.config.update("jax_platforms", "cpu")  # this process only reads, beside trainings that need the device
    for name, recipe in RESUMED.items():
        config = parse_train(recipe).config
        per_iteration = config.env.num_lanes * config.reinforce.rollout_agent_steps
        budgets = [str(per_iteration * iterations) for iterations in (2, 3, 4)]
        flags = [*recipe, "--run.schedule-agent-steps", budgets[-1]]
        folders = [asked.runs / f"{recipe[0]}-{how}" for how in ("whole", "resumed")]
        call("train", *flags, "--run.budget-agent-steps", budgets[-1], "--run.dir", str(folders[0]))
        call("train", *flags, "--run.budget-agent-steps", budgets[0], "--run.dir", str(folders[1]))
        for budget in budgets[1:]:
            call("train", "--resume", str(folders[1]), "--run.budget-agent-steps", budget)
        whole, resumed = (_fingerprint(folder) for folder in folders)
        same = {what: whole[what] == resumed[what] for what in whole}
        yield {"run": name, "resumed": "twice", **{f"same {what}": answer for what, answer in same.items()}}
        if not all(same.values()):
            sys.exit(f"{folders[1]}: the resumed run differs")


def cpu_evaluation(asked: Asked, seconds: float) -> Iterator[Row]:
    """Evaluation on the device, and on the processor, of a policy that the device has trained."""
    there = [run for run in (asked.runs / "pong", asked.runs / "pong-whole") if run.exists()]
    run = there[0] if there else asked.runs / "short"
    if not there:
        call("train", "pong", "--run.dir", str(run), "--run.budget-seconds", "1")
    for platform in ("", "cpu"):
        if platform:
            os.environ["JAX_PLATFORMS"] = platform  # of the processes that this one starts
        call("evaluate", str(run), "--episodes", str(GAMES_PLAYED), "--seed", "1")
        played = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))[-1]
        speed = played["agent_steps"] / played["seconds"]
        yield {"on": platform or "the device", "games": played["episodes"], "mean": played["mean"], **_speed(speed)}


class Section(NamedTuple):
    """A part of the report."""

    measure: Callable[[Asked, float], Iterator[Row]]
    percent: int
    """Its share of the time."""


SECTIONS = {
    "device": Section(device, 4),
    "throughput": Section(throughput, 26),
    "overlap": Section(overlap, 8),
    "precision": Section(precision, 9),
    "jax_environments": Section(jax_environments, 11),
    "pong": Section(pong, 22),
    "resume": Section(resume, 14),
    "cpu_evaluation": Section(cpu_evaluation, 6),
}


def main() -> None:
    """Runs the command."""
    arguments = _parse()
    folder: Path = arguments.out / "accelerator"
    if arguments.section:
        asked = Asked(arguments.game, arguments.networks, arguments.lanes, arguments.members, arguments.runs)
        _measure(arguments.section, asked, arguments.seconds, folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    end = time.monotonic() + 60 * arguments.minutes
    sections: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="jaxpg-accelerator-") as runs:
        for name in arguments.sections:
            left = sum(SECTIONS[other].percent for other in arguments.sections if other not in sections)
            seconds = (end - time.monotonic()) * SECTIONS[name].percent / left
            sections[name] = run_section(name, [*sys.argv[1:], "--runs", runs], max(seconds, 1.0), folder)
            report(sections, arguments.out)
    sys.exit(1 if any(section["failure"] for section in sections.values()) else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="time for everything (default 10)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default all")
    parser.add_argument("--game", default="Pong", help="default Pong")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default all")
    parser.add_argument("--lanes", nargs="+", type=int, default=[32, 128, 512], help="default 32 128 512")
    parser.add_argument("--members", nargs="+", type=int, default=[1, 64, 1024], help="default 1 64 1024")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)  # what this command tells its processes
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(name: str, asked: Asked, seconds: float, folder: Path) -> None:
    """Measures one section in this process; each row is on the disk as soon as it is known."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share the device here
    rows: list[Row] = []
    for row in SECTIONS[name].measure(asked, seconds):
        rows.append(row)
        _write(folder / f"{name}.json", json.dumps(rows))


def run_section(name: str, argv: Sequence[str], seconds: float, folder: Path) -> Row:
    """Measures a section in a process of its own, which is killed with all that it has started when its time is over.

    Returns:
      The rows that it has made, its seconds, and why it failed; None where it did not.
    """
    print(f"{name}: {seconds:.0f} s", flush=True)
    command = [sys.executable, __file__, *argv, "--section", name, "--seconds", str(RESERVE * seconds)]
    start, path, log = time.monotonic(), folder / f"{name}.json", folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        failure = f"exit code {code}: {_last_line(log)}" if (code := process.wait(seconds)) else None
    except subprocess.TimeoutExpired:
        failure = f"not ready after {seconds:.0f} s"
    finally:
        _kill(process)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {"rows": rows, "seconds": time.monotonic() - start, "failure": failure}


def report(sections: dict[str, Row], out: Path) -> None:
    """Writes all sections that are there: ``accelerator.md`` and ``accelerator.json``."""
    content = {"date": time.strftime("%Y-%m-%d"), "command": " ".join(sys.argv), "sections": sections}
    _write(out / "accelerator.json", json.dumps(content, indent=2) + "\n")
    parts = [f"{time.strftime('%Y-%m-%d')}, `{' '.join(['python', *sys.argv])}`, medians of {TURNS} turns."]
    for name, section in sections.items():
        about = (SECTIONS[name].measure.__doc__ or "").strip()
        failed = [f"Failed: {section['failure']}"] if section["failure"] else []
        parts += [f"## {name}", f"{about} {section['seconds']:.0f} s.", *failed, table(section["rows"])]
    text = "\n\n".join(part for part in parts if part) + "\n"
    _write(out / "accelerator.md", text)
    print("\n\n".join(text.split("\n\n## ")[-1:]), flush=True)


def table(rows: Sequence[Row]) -> str:
    """Rows that have the same columns as a table of Markdown; nothing for no rows."""
    if not rows:
        return ""
    head = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    return "\n".join([*head, *(f"| {' | '.join(map(_text, row.values()))} |" for row in rows)])


def measured(sides: dict[Any, Side], seconds: float) -> dict[Any, float]:
    """Median agent steps per second of contestants that start at once and take turns, for so many seconds in all."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(len(sides)) as starting:
        made = starting.map(lambda side: Contestant(side[0], side[1], variables=side[2]), sides.values())
        contestants = dict(zip(sides, made, strict=True))
    turn_seconds = _turn_seconds(end - time.monotonic(), TURNS * len(sides))
    done: dict[Any, list[Done]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, contestant in contestants.items():
            done[name].append(contestant.turn(turn_seconds))
    for contestant in contestants.values():
        contestant.close()
    return {name: median(rates(turns)) for name, turns in done.items()}


def _training(network: str, game: str, lanes: int, *flags: str) -> Side:
    return "training", [*recipe_flags(network, game), "--env.num-lanes", str(lanes), *flags], {}


def _turn_seconds(left: float, turns: int) -> float:
    """Length of each of so many turns. Longer ones would say no more, and other sections can use the time."""
    return min(max(left / turns, SHORTEST_TURN_SECONDS), LONGEST_TURN_SECONDS)


def _middle(numbers: list[int]) -> int:
    return numbers[len(numbers) // 2]


def _speed(agent_steps_per_second: float) -> Row:
    return {"agent steps/s": agent_steps_per_second}


def _fingerprint(folder: Path) -> dict[str, Any]:
    """What of a run is the same to the bit however often it is resumed."""
    run, policy = read_run(str(folder)), jaxpg.load_policy(folder)
    clocks = ("seconds", "per_second")
    metrics = [{name: x for name, x in row.items() if not any(y in name for y in clocks)} for row in run.records]
    return {"metrics": metrics, "weights": [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(policy.params)]}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a section and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing was said"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _write(path: Path, text: str) -> None:
    """Replaces a file at once, so that a command that is cut off leaves a whole one."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that a section is killed, too
    main()
