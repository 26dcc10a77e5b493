"""Training speed against raw EnvPool: the same game, lanes and frames, in turns within one run.

Writes ``training_speed.json`` and ``training_speed.md`` and prints the table. Speeds are agent steps per
second. The machine should do nothing else meanwhile.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import envpool
import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.config import Config, load_recipe
from jaxpg.experiment import build, lane_seeds
from jaxpg.observations import make_observation


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="an Atari recipe on EnvPool; the default recipe without it")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of one turn (default 12)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the results")
    arguments = parser.parse_args()
    config = load_recipe(Path(arguments.recipe)) if arguments.recipe else Config()
    turns = {"raw EnvPool": _raw(config), "training": _training(config)}
    rows: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        row = {name: turn(arguments.seconds) for name, turn in turns.items()}
        row["ratio"] = row["training"] / row["raw EnvPool"]
        rows.append(row)
        print(
            "  ".join(
                f"{name} {value:.3f}" if name == "ratio" else f"{name} {value:.0f}" for name, value in row.items()
            )
        )
    _report(config, rows, arguments.out)


def _raw(config: Config):
    """Random actions in EnvPool itself, with nothing of jaxpg around it."""
    env, needs = config.env, make_observation(config.observation).needs
    pool = envpool.make_gymnasium(
        f"{env.game}-v5",
        num_envs=env.num_lanes,
        batch_size=env.num_lanes,
        env_seed=[int(s) for s in lane_seeds(0, 0, env.num_lanes)],
        num_threads=env.num_threads,
        img_height=needs.height,
        img_width=needs.width,
        gray_scale=needs.color == "gray",
        stack_num=needs.stack,
        frame_skip=env.frame_skip,
        use_inter_area_resize=env.resize == "area",
        repeat_action_probability=env.sticky_action_probability,
    )
    allowed = np.array(env.actions or range(pool.action_space.n), np.int32)
    actions = allowed[np.random.default_rng(0).integers(len(allowed), size=(1000, env.num_lanes))]
    pool.reset()

    def turn(seconds: float) -> float:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            pool.step(actions[count % len(actions)])
            count += 1
        return count * env.num_lanes / (time.perf_counter() - start)

    return turn


def _training(config: Config):
    """The training loop's own calls: ask, collect, tell, and the metrics fetched each iteration."""
    experiment = build(config)
    init_key, learner_key, act_key = jax.random.split(jax.random.key(0), 3)
    state = experiment.learner.init(learner_key, jax.jit(experiment.policy.init)(init_key))
    experiment.rollout.reset(lane_seeds(1, 0, config.env.num_lanes))
    iteration = 0

    def turn(seconds: float) -> float:
        nonlocal state, iteration
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            population = experiment.learner.ask(state, jnp.zeros(1, jnp.int32))
            key = jax.random.fold_in(act_key, iteration)
            experience, _ = experiment.rollout.collect(population, config.reinforce.rollout_agent_steps, key)
            state, metrics = experiment.learner.tell(state, experience)
            jax.device_get(metrics)
            iteration += 1
            count += 1
        return count * experiment.rollout_agent_steps * experiment.rollout.num_lanes / (time.perf_counter() - start)

    turn(1.0)  # compiles
    return turn


def _report(config: Config, rows: list[dict[str, Any]], folder: Path) -> None:
    device = jax.devices()[0]
    machine = f"{device.platform} ({device.device_kind}), {os.cpu_count()} cores"
    lines = [
        f"{config.env.game}, {config.env.num_lanes} lanes, policy {config.policy.name}, {machine}, "
        f"{time.strftime('%Y-%m-%d')}",
        "",
        "| | minimum | median | maximum |",
        "|---|---|---|---|",
    ]
    for name in rows[0]:
        values = [row[name] for row in rows]
        numbers = [min(values), statistics.median(values), max(values)]
        shown = [f"{n:.3f}" if name == "ratio" else f"{n:,.0f}" for n in numbers]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    table = "\n".join(lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_speed.md").write_text(table + "\n", encoding="utf-8")
    content = {"machine": machine, "rows": rows}
    (folder / "training_speed.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
