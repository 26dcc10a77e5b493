"""Training speed against raw EnvPool: the same game, lanes and frames, in turns within one run.

Writes ``training_speed.json`` and ``training_speed.md`` and prints the table. Speeds are agent steps per
second. The machine should do nothing else meanwhile.
"""

import time
from pathlib import Path

import envpool
import jax
import jax.numpy as jnp
import numpy as np
from turns import Row, parse_turns, report, say

from jaxpg.config import Config, load_recipe
from jaxpg.experiment import build, lane_seeds
from jaxpg.observations import make_observation


def main() -> None:
    """The command."""
    arguments = parse_turns(__doc__, "configs/pong_reinforce.yaml")
    config = load_recipe(Path(arguments.recipe))
    turns = {"raw EnvPool": _raw(config), "training": _training(config)}
    rows: list[Row] = []
    for _ in range(arguments.rounds):
        row = {name: turn(arguments.seconds) for name, turn in turns.items()}
        row["ratio"] = row["training"] / row["raw EnvPool"]
        rows.append(row)
        say(row)
    report(config, rows, arguments.out, "training_speed")


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


if __name__ == "__main__":
    main()
