"""Measures training on environments in JAX, in turns beside rejax's PPO, and with several members in one program.

  python3 -m venv rejax && rejax/bin/pip install 'rejax==0.1.3' 'gymnax<1'
  python benchmarks/jax_envs.py --rejax-python rejax/bin/python

Both train the same networks in 64 lanes of 128 agent steps, with four epochs of four minibatches. A third side is jaxpg
with its own MLP of the same layers, in which logits and value share them. Each ratio compares two neighbouring turns. P
members train side by side, each with its own 64 lanes. Writes ``jax_envs.md`` and ``jax_envs.json``. The machine should
do nothing else meanwhile.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from turns import Contestant, rates

HERE = Path(__file__).parent
GAMES = {"CartPole-v1": "vector", "Breakout-MinAtar": "picture"}
"""The observation of each game."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rejax-python", default="", help="interpreter of the environment with rejax; without it, jaxpg alone"
    )
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES), help="default both")
    parser.add_argument(
        "--members", nargs="*", type=int, default=[1, 8, 64], help="numbers of members (default 1 8 64)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=8.0, help="shortest length of one turn (default 8)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    rows = {game: _measure(game, arguments) for game in arguments.games}
    table = _table(rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "rows": rows}
    (arguments.out / "jax_envs.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "jax_envs.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def flags(game: str) -> list[str]:
    """The flags of the training that does the work of rejax's PPO."""
    return [
        *("cartpole", "--imports", str(HERE / "separate_networks.py"), "--policy.name", "separate_networks"),
        *("--env.backend", "gymnax", "--env.game", game, "--env.num-lanes", "64", "--observation.name", GAMES[game]),
        *("--reinforce.rollout-agent-steps", "128", "--reinforce.epochs", "4"),
        *(
            "--reinforce.minibatch-agent-steps",
            "2048",
            "--reinforce.baseline",
            "value",
            "--reinforce.td-lambda",
            "0.95",
        ),
        *("--reinforce.entropy-bonus", "0.01", "--optimizer.learning-rate", "3e-4"),
    ]


def _measure(game: str, arguments: argparse.Namespace) -> dict[str, Any]:
    shared = ("--policy.name", "mlp", "--policy.hidden", "64", "64")
    sides = {
        "jaxpg": Contestant("training", flags(game)),
        "jaxpg, shared layers": Contestant("training", [*flags(game), *shared]),
    }
    if arguments.rejax_python:
        sides["rejax"] = Contestant(game, [], script="rejax_contestant.py", python=arguments.rejax_python)
    for number in arguments.members:
        sides[f"{number} members"] = Contestant("members", [str(number), *flags(game)])
    done: dict[str, list[Any]] = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side, contestant in sides.items():
            done[side].append(contestant.turn(arguments.seconds))
        speeds = ", ".join(f"{side} {rates(turns)[-1]:,.0f}" for side, turns in done.items())
        print(f"{game}, round {number + 1} of {arguments.rounds}: {speeds}", flush=True)
    for contestant in sides.values():
        contestant.close()
    row: dict[str, Any] = {
        "turns": done,
        "agent_steps_per_second": {side: median(rates(x)) for side, x in done.items()},
    }
    row["ratios"] = {}
    for side in ("jaxpg", "jaxpg, shared layers") if "rejax" in done else ():
        ratios = [a / b for a, b in zip(rates(done[side]), rates(done["rejax"]), strict=True)]
        row["ratios"][side] = {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}
    return row


def _table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}. Training agent steps per second, medians.",
        "",
        "| game | | agent steps/s | over rejax (lowest to highest) | microseconds an agent step |",
        "|---|---|---|---|---|",
    ]
    for game, row in rows.items():
        for side, speed in row["agent_steps_per_second"].items():
            ratio = row["ratios"].get(side)
            shown = f"**{ratio['median']:.2f}** ({ratio['lowest']:.2f} to {ratio['highest']:.2f})" if ratio else ""
            lines.append(f"| {game} | {side} | {speed:,.0f} | {shown} | {1e6 / speed:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
