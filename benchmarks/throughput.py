"""Measures how near training comes to the floor of this machine, for six networks.

  python benchmarks/throughput.py --game Pong --rounds 5 --seconds 6

The floor of an agent step is a sum of two times. The first is the time of EnvPool alone. The second is the longer of
two: the policy's products at the speed of large products on this machine, or the reading of parameters and observations
at the speed of memory. All of these are measured in turns with the trainings. The efficiency is the floor divided by
the measured time. Writes ``throughput.md``, ``throughput.json`` and ``throughput.png``. The machine should do nothing
else meanwhile.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from startup import seconds_to_first_iteration
from turns import PHASES, Contestant, Done, phase_seconds, rates

ROOT = Path(__file__).parent.parent
NETWORKS = {
    "linear": ["configs/pong_reinforce.yaml", "--policy.name", "linear"],
    "MLP": ["configs/pong_reinforce.yaml"],
    "compact CNN, three epochs": ["configs/atari.yaml"],
    "2013 CNN": ["benchmarks/recipes/one_pass.yaml", "--policy.name", "dqn2013"],
    "Nature CNN": ["benchmarks/recipes/one_pass.yaml"],
    "Nature CNN, four epochs": ["benchmarks/recipes/four_epochs.yaml"],
}
WHOLE_SCREEN = [
    *("--env.actions", "--observation.background", "--observation.first-row", "0", "--observation.end-row", "0"),
    *("--observation.first-column", "0", "--observation.end-column", "0"),
]
"""Flags that take Pong's actions, background and crop out of its recipe."""
Measured = dict[str, list[Done]]


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Pong", help="default Pong")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one turn (default 6)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    recipes = {name: recipe_flags(name, arguments.game) for name in arguments.networks}
    starts = {name: seconds_to_first_iteration(argv) for name, argv in recipes.items()}
    contestants = {"machine": Contestant("machine", [])}
    for name, argv in recipes.items():
        contestants[name] = Contestant("training", argv)
        contestants[f"{name}: raw EnvPool"] = Contestant("raw_envpool", argv)
    contestants["raw ALE"] = Contestant("raw_ale", next(iter(recipes.values())))
    measured: Measured = {name: [] for name in contestants}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
        for name, contestant in contestants.items():
            measured[name].append(contestant.turn(arguments.seconds))
    facts = {name: contestant.facts for name, contestant in contestants.items()}
    for contestant in contestants.values():
        contestant.close()
    rows = {name: _row(name, facts[name], measured, starts[name]) for name in recipes}
    machine = f"{facts['machine']['platform']} ({facts['machine']['device']}), {os.cpu_count()} cores"
    table = _table(arguments.game, machine, rows, measured)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "date": time.strftime("%Y-%m-%d"), "rows": rows, "facts": facts, "turns": measured}
    (arguments.out / "throughput.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "throughput.md").write_text(table + "\n", encoding="utf-8")
    _draw(rows, f"{arguments.game}, {machine}", arguments.out / "throughput.png")
    print(table)


def recipe_flags(name: str, game: str) -> list[str]:
    """Arguments of the training command for a network of ``NETWORKS`` and a game."""
    recipe, *flags = NETWORKS[name]
    if recipe.endswith("pong_reinforce.yaml") and game != "Pong":
        flags += WHOLE_SCREEN
    return [str(ROOT / recipe), *flags, "--env.game", game]


def _row(name: str, facts: dict[str, Any], measured: Measured, starts: tuple[float, float]) -> Done:
    """The medians of one network, in microseconds per agent step. Each round has its own floor."""
    turns, machine, raws = measured[name], measured["machine"], rates(measured[f"{name}: raw EnvPool"])
    floors, efficiencies = [], []
    for turn, rate, raw in zip(turns, machine, raws, strict=True):
        computing = facts["operations_per_agent_step"] / rate["operations_per_second"]
        reading = facts["bytes_per_agent_step"] / rate["bytes_per_second"]
        floors.append(1 / raw + max(computing, reading))
        efficiencies.append(floors[-1] * turn["agent_steps"] / turn["seconds"])
    row = {
        "agent_steps_per_second": median(rates(turns)),
        "raw_agent_steps_per_second": median(raws),
        "floor_microseconds": 1e6 * median(floors),
        "efficiency": median(efficiencies),
        "lowest_efficiency": min(efficiencies),
        "highest_efficiency": max(efficiencies),
        "peak_megabytes": max(turn["peak_bytes"] for turn in turns) / 1e6,
        "cold_start_seconds": starts[0],
        "warm_start_seconds": starts[1],
    }
    for phase in PHASES:
        row[f"{phase}_microseconds"] = 1e6 * median(phase_seconds(turn, phase) / turn["agent_steps"] for turn in turns)
    return row


def _table(game: str, machine: str, rows: dict[str, Done], measured: Measured) -> str:
    device = measured["machine"]
    lines = [
        f"{game}, {machine}, {time.strftime('%Y-%m-%d')}, medians of {len(device)} turns. Products: "
        f"{median(turn['operations_per_second'] for turn in device) / 1e9:,.0f} GFLOP/s; memory: "
        f"{median(turn['bytes_per_second'] for turn in device) / 1e9:,.1f} GB/s; raw ALE: "
        f"{median(rates(measured['raw ALE'])):,.0f} agent steps/s.",
        "",
        "| network | agent steps/s | raw EnvPool | floor, us | **efficiency** | emulate, us | act, us "
        "| learn, us | other, us | peak MB | cold start, s | warm start, s |",
        "|" + "---|" * 12,
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['agent_steps_per_second']:,.0f} | {row['raw_agent_steps_per_second']:,.0f} "
            f"| {row['floor_microseconds']:.0f} | **{row['efficiency']:.2f}** ({row['lowest_efficiency']:.2f} to "
            f"{row['highest_efficiency']:.2f}) | "
            + " | ".join(f"{row[f'{phase}_microseconds']:.0f}" for phase in PHASES)
            + f" | {row['peak_megabytes']:,.0f} | {row['cold_start_seconds']:.1f} | {row['warm_start_seconds']:.1f} |"
        )
    return "\n".join(lines)


def _draw(rows: dict[str, Done], title: str, path: Path) -> None:
    """Draws bars of the phases of an agent step, with a mark at the floor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots()
    names, left = list(rows), [0.0] * len(rows)
    for phase in PHASES:
        widths = [row[f"{phase}_microseconds"] for row in rows.values()]
        axes.barh(names, widths, left=left, label=phase)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, row in enumerate(rows.values()):
        axes.plot([row["floor_microseconds"]] * 2, [place - 0.4, place + 0.4], color="black")
    axes.invert_yaxis()
    axes.set_xlabel("microseconds an agent step (black: the floor)")
    axes.set_title(title)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
