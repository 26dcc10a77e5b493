"""Measures how time and memory grow with lanes, with members of a population, and with emulator threads.

  python benchmarks/scaling.py configs/pong_reinforce.yaml --rounds 5 --seconds 3

Each point runs in its own process, so that its peak memory is its own. A process before it fills the compilation cache,
because the compiler's memory would count, too. The points for lanes and threads train the recipe. The number of agent
steps in a batch stays the recipe's, so more lanes mean shorter rollouts (T), down to T = 4; from there the batch grows
with the lanes. The size of a minibatch stays, too, or becomes the next larger size that the lanes allow. Members play
without learning. They share 64 lanes; more than 64 members have one lane each. Writes ``scaling.md``,
``scaling.json`` and ``scaling.png``. The machine should do nothing else meanwhile.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from growth import Row, draw, fits, table
from turns import PHASES, Contestant, Done, phase_seconds, rates

from jaxpg import UserError
from jaxpg.cli import parse_train
from jaxpg.config import Config

LEAST_ROLLOUT_AGENT_STEPS = 4
LEAST_LANES_OF_MEMBERS = 64


class Point(NamedTuple):
    """One configuration to measure."""

    series: str  # lanes, members or threads
    size: int  # how many lanes, members or threads
    num_lanes: int
    rollout_agent_steps: int
    contestant: list[str]  # kind and arguments of the contestant


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipe = "configs/pong_reinforce.yaml"
    parser.add_argument("recipe", nargs="?", default=recipe, help=f"YAML recipe of REINFORCE (default {recipe})")
    sizes: dict[str, Any] = {"type": int, "nargs": "*", "metavar": "N"}
    parser.add_argument("--lanes", **sizes, default=[8, 16, 32, 64, 128, 256, 512, 1024], help="default 8 to 1024")
    parser.add_argument("--members", **sizes, default=[1, 4, 16, 64, 256], help="default 1 4 16 64 256")
    threads = sorted({1, 2, os.cpu_count() or 1})
    parser.add_argument("--threads", **sizes, default=threads, help="default 1, 2 and the number of cores")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one turn (default 3)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    points = _points(parser, arguments)
    rows: list[Row] = []
    for point in points:
        facts, turns = _measure(point, arguments.rounds, arguments.seconds)
        rows.append(_row(point, turns))
        print(
            f"{point.series} {point.size}: {rows[-1]['agent_steps_per_second']:,.0f} agent steps/s, "
            f"{rows[-1]['peak_megabytes']:,.0f} MB",
            flush=True,
        )
    machine = f"{facts['platform']} ({facts['device']}), {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    title = f"{Path(arguments.recipe).name}, {machine}"
    text = table(f"{title}, medians of {arguments.rounds} turns of {arguments.seconds:g} s.", rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"recipe": arguments.recipe, "machine": machine, "fits": fits(rows), "rows": rows}
    (arguments.out / "scaling.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "scaling.md").write_text(text + "\n", encoding="utf-8")
    draw(rows, title, arguments.out / "scaling.png")
    print(text)


def rollout_shape(num_lanes: int, batch_agent_steps: int, minibatch_agent_steps: int) -> tuple[int, int]:
    """Agent steps of each lane in a rollout (T) and agent steps of a minibatch, for another number of lanes.

    Batch and minibatch stay as near to the given sizes as ``num_lanes`` allows.
    """
    rows = max(batch_agent_steps // num_lanes, LEAST_ROLLOUT_AGENT_STEPS)
    if minibatch_agent_steps == 0:
        return rows, 0
    divisors = [d for d in range(1, rows + 1) if rows % d == 0]
    return rows, num_lanes * next((d for d in divisors if d * num_lanes >= minibatch_agent_steps), rows)


def _points(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[Point]:
    if min([*arguments.lanes, *arguments.members, *arguments.threads], default=0) < 1:
        parser.error("lanes, members and threads are numbers from 1 up, at least one of them")
    try:
        config = parse_train([arguments.recipe]).config
    except UserError as error:
        parser.error(str(error))
    if config.run.learner != "reinforce":
        parser.error(f"{arguments.recipe}: its learner is {config.run.learner}, not reinforce")
    points = []
    for num_lanes in sorted(set(arguments.lanes)):
        points.append(_point("lanes", num_lanes, num_lanes, config, ["training", arguments.recipe]))
    for members in sorted(set(arguments.members)):
        num_lanes = -(-LEAST_LANES_OF_MEMBERS // members) * members  # a multiple of the members
        contestant = ["population", str(members), arguments.recipe]
        points.append(_point("members", members, num_lanes, config, contestant))
    for threads in sorted(set(arguments.threads)):
        contestant = ["training", arguments.recipe, "--env.num-threads", str(threads)]
        points.append(_point("threads", threads, config.env.num_lanes, config, contestant))
    return points


def _point(series: str, size: int, num_lanes: int, config: Config, contestant: list[str]) -> Point:
    """A point with the recipe's batch in ``num_lanes`` lanes."""
    batch = config.reinforce.rollout_agent_steps * config.env.num_lanes
    rows, minibatch = rollout_shape(num_lanes, batch, config.reinforce.minibatch_agent_steps)
    flags = {"env.num-lanes": num_lanes, "reinforce.rollout-agent-steps": rows}
    flags["reinforce.minibatch-agent-steps"] = minibatch
    words = [word for name, number in flags.items() for word in (f"--{name}", str(number))]
    return Point(series, size, num_lanes, rows, [*contestant, *words])


def _measure(point: Point, rounds: int, seconds: float) -> tuple[dict[str, Any], list[Done]]:
    kind, *argv = point.contestant
    Contestant(kind, argv).close()  # compiles for the next
    contestant = Contestant(kind, argv)
    turns = [contestant.turn(seconds) for _ in range(rounds)]
    contestant.close()
    return contestant.facts, turns


def _row(point: Point, turns: list[Done]) -> Row:
    """The medians of one point: microseconds per agent step, and milliseconds per step of all lanes."""
    speeds = rates(turns)
    row: Row = {
        "series": point.series,
        "size": point.size,
        "num_lanes": point.num_lanes,
        "rollout_agent_steps": point.rollout_agent_steps,
        "agent_steps_per_second": median(speeds),
        "lowest_agent_steps_per_second": min(speeds),
        "highest_agent_steps_per_second": max(speeds),
        "step_milliseconds": 1e3 * point.num_lanes / median(speeds),
    }
    for phase in PHASES:
        row[f"{phase}_microseconds"] = 1e6 * median(phase_seconds(turn, phase) / turn["agent_steps"] for turn in turns)
    row["peak_megabytes"] = max(turn["peak_bytes"] for turn in turns) / 1e6
    row["device_peak_megabytes"] = max(turn["device_peak_bytes"] for turn in turns) / 1e6
    return row


if __name__ == "__main__":
    main()
