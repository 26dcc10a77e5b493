"""Compares the training speed with other trainers: same game, lanes and network, measured in turns.

  python benchmarks/peers.py --rounds 5 --seconds 8

Each pair is a set-up of the peer and the jaxpg recipe that does the same work for each agent step. A peer that is not
installed is listed as missing (``pip install '.[peers]'`` installs the peers). Writes ``peers.md``, ``peers.json`` and
``peers.png``. The machine should do nothing else meanwhile.
"""

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from turns import Contestant, Done, rates

ROOT = Path(__file__).parent.parent


class Pair(NamedTuple):
    """A peer's set-up, and the flags of the jaxpg training that is compared with it."""

    title: str
    kind: str
    package: str
    game: str
    lanes: int
    ours: tuple[str, ...]


SB3 = "stable_baselines3"
ONCE = ("benchmarks/recipes/one_pass.yaml", "--env.num-lanes", "16")
CLIPPED = ("benchmarks/recipes/four_epochs.yaml",)
HALF = ("--policy.precision", "bfloat16", "--reinforce.chunk-agent-steps", "64")
"""Flags for bfloat16. Its buffers are half as large, so twice as many pictures stay in cache."""
PAIRS = {
    "a2c": Pair("Stable-Baselines3 A2C, Nature CNN", "sb3_a2c", SB3, "Pong", 16, ONCE),
    "ppo": Pair("Stable-Baselines3 PPO, Nature CNN, 4 epochs", "sb3_ppo", SB3, "Pong", 8, CLIPPED),
    "a2c16": Pair("Stable-Baselines3 A2C, Nature CNN, beside bfloat16", "sb3_a2c", SB3, "Pong", 16, (*ONCE, *HALF)),
    "ppo16": Pair("Stable-Baselines3 PPO, Nature CNN, beside bfloat16", "sb3_ppo", SB3, "Pong", 8, (*CLIPPED, *HALF)),
    "sbx": Pair("sbx PPO, Nature CNN, 4 epochs", "sbx_ppo", "sbx", "Pong", 8, CLIPPED),
    "jax": Pair("PPO in plain JAX on EnvPool, Nature CNN, 4 epochs", "jax_ppo", "envpool", "Pong", 8, CLIPPED),
    "pong": Pair(
        "that of Stable-Baselines3 beside the MLP", "sb3_ppo", SB3, "Pong", 8, ("configs/pong_reinforce.yaml",)
    ),
    "n1": Pair(
        "notebook 1's loop", "notebook_n1", "numpy", "MsPacman", 1, ("configs/notebooks/n1_policy_gradient.yaml",)
    ),
    "n2": Pair("notebook 2's loop", "notebook_n2", "torch", "Pong", 1, ("configs/notebooks/n2_pong_mlp.yaml",)),
}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="default all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=8.0, help="shortest length of one turn (default 8)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    chosen = [PAIRS[name] for name in arguments.pairs]
    missing = [pair.title for pair in chosen if importlib.util.find_spec(pair.package) is None]
    rows = {
        pair.title: _measure(pair, arguments.rounds, arguments.seconds) for pair in chosen if pair.title not in missing
    }
    table = _table(rows, missing)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"date": time.strftime("%Y-%m-%d"), "rows": rows, "missing": missing}
    (arguments.out / "peers.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "peers.md").write_text(table + "\n", encoding="utf-8")
    if rows:
        _draw(rows, arguments.out / "peers.png")
    print(table)


def _measure(pair: Pair, rounds: int, seconds: float) -> dict[str, Any]:
    """Measures both sides of a pair in turns.

    Each ratio compares two neighbouring turns, so that a slow moment of the machine slows both sides.
    """
    recipe, *flags = pair.ours
    peer = Contestant(pair.kind, [pair.game, str(pair.lanes)], script="peer_contestant.py")
    ours = Contestant("training", [str(ROOT / recipe), *flags, "--env.game", pair.game])
    done: dict[str, list[Done]] = {"peer": [], "ours": []}
    for number in range(rounds):
        done["peer"].append(peer.turn(seconds))
        done["ours"].append(ours.turn(seconds))
        speeds = {side: rates(turns)[-1] for side, turns in done.items()}
        print(
            f"{pair.title}, round {number + 1} of {rounds}: {speeds['ours']:.0f} and {speeds['peer']:.0f}", flush=True
        )
    peer.close()
    ours.close()
    ratios = [a / b for a, b in zip(rates(done["ours"]), rates(done["peer"]), strict=True)]
    return {
        "recipe": " ".join(pair.ours),
        "device": f"{ours.facts['platform']} ({ours.facts['device']}), {os.cpu_count()} cores",
        "agent_steps_per_second": median(rates(done["ours"])),
        "peer_agent_steps_per_second": median(rates(done["peer"])),
        "ratio": median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "turns": done,
    }


def _table(rows: dict[str, dict[str, Any]], missing: list[str]) -> str:
    device = next(iter(rows.values()))["device"] if rows else "nothing measured"
    lines = [
        f"{device}, {time.strftime('%Y-%m-%d')}. Agent steps per second, medians; ratios of neighbouring turns.",
        "",
        "| peer | its speed | recipe | speed | **ratio** |",
        "|---|---|---|---|---|",
    ]
    for title, row in rows.items():
        lines.append(
            f"| {title} | {row['peer_agent_steps_per_second']:,.0f} | {row['recipe']} "
            f"| {row['agent_steps_per_second']:,.0f} | **{row['ratio']:.2f}** ({row['lowest_ratio']:.2f} to "
            f"{row['highest_ratio']:.2f}) |"
        )
    lines += [f"| {title} | not installed: pip install '.[peers]' | | | |" for title in missing]
    return "\n".join(lines)


def _draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.5 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    ratios = [row["ratio"] for row in rows.values()]
    below = [row["ratio"] - row["lowest_ratio"] for row in rows.values()]
    above = [row["highest_ratio"] - row["ratio"] for row in rows.values()]
    axes.barh(list(rows), ratios, xerr=[below, above])
    axes.axvline(1.0, color="black")
    axes.invert_yaxis()
    axes.set_xlabel("jaxpg's agent steps per second over the peer's (median, lowest and highest)")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
