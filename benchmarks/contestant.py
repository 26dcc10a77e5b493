"""One side of a speed comparison, in its own process with its own threads and its own peak memory.

  python benchmarks/contestant.py training benchmarks/recipes/one_pass.yaml
  python benchmarks/contestant.py population 16 configs/pong_reinforce.yaml
  python benchmarks/contestant.py members 8 cartpole --env.backend gymnax

The process first writes one line of JSON about itself. Each line of standard input is a number of seconds. The process
works for that long and answers with one line of JSON: the work done and the peak memory so far, of the process and, on
an accelerator, of the device. ``throughput.py`` lets several contestants take turns.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from floor import bytes_per_agent_step, matmul_rate, operations_per_agent_step, read_rate

from jaxpg.cli import parse_train
from jaxpg.config import Config
from jaxpg.envs import make_env
from jaxpg.envs.games import rom_ids_by_game
from jaxpg.envs.seeds import lane_seeds
from jaxpg.envs.threads import affinity_offset
from jaxpg.experiment import build
from jaxpg.kernel.act import make_act
from jaxpg.kernel.jax_iteration import make_iteration
from jaxpg.kernel.players import FixedPopulation
from jaxpg.kernel.rollout import Rollout
from jaxpg.machine.malloc import keep_freed_memory
from jaxpg.machine.xla import choose_fusions, keep_compiled_code
from jaxpg.policies.observations import make_observation

Turn = Callable[[float], dict[str, float]]


def main() -> None:
    """Runs the command."""
    keep_freed_memory()
    choose_fusions()
    kind, *argv = sys.argv[1:]
    several = {"population": _population, "members": _members}
    make = partial(several[kind], int(argv.pop(0))) if kind in several else KINDS[kind]
    facts, turn = make(parse_train(argv).config)
    device = jax.devices()[0]
    facts |= {"platform": device.platform, "device": device.device_kind}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        done = turn(float(line))
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        device_peak_bytes = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)  # none on CPU
        print(json.dumps({**done, "peak_bytes": peak_bytes, "device_peak_bytes": device_peak_bytes}), flush=True)


def _machine(config: Config) -> tuple[dict[str, Any], Turn]:
    """Measures the device's highest rates: operations in products of large matrices, and bytes read from memory."""
    matmul, read = matmul_rate(), read_rate()
    return {}, lambda seconds: {
        "operations_per_second": matmul(seconds / 2),
        "bytes_per_second": read(seconds / 2),
    }


def _stepping(num_lanes: int, num_actions: int, step: Callable[[np.ndarray], Any]) -> Turn:
    """A turn that steps the lanes with random actions and ignores the results."""
    actions = np.random.default_rng(0).integers(num_actions, size=(1000, num_lanes)).astype(np.int32)

    def turn(seconds: float) -> dict[str, float]:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            step(actions[count % len(actions)])
            count += 1
        return {"agent_steps": count * num_lanes, "seconds": time.perf_counter() - start}

    return turn


def _raw_envpool(config: Config) -> tuple[dict[str, Any], Turn]:
    """EnvPool alone, with this recipe's lanes, threads and frames."""
    import envpool  # imported here, because a contestant needs only one emulator library

    env, needs = config.env, make_observation(config.observation).needs
    pool = envpool.make_gymnasium(
        f"{env.game}-v5",
        num_envs=env.num_lanes,
        batch_size=env.num_lanes,
        env_seed=[int(s) for s in lane_seeds(0, 0, env.num_lanes)],
        num_threads=env.num_threads,
        thread_affinity_offset=affinity_offset(env.num_threads, env.num_lanes),
        img_height=needs.height,
        img_width=needs.width,
        gray_scale=needs.color == "gray",
        stack_num=needs.stack,
        frame_skip=env.frame_skip,
        use_inter_area_resize=env.resize == "area",
        repeat_action_probability=env.sticky_action_probability,
    )
    pool.reset()
    return {}, _stepping(env.num_lanes, int(pool.action_space.n), pool.step)


def _raw_ale(config: Config) -> tuple[dict[str, Any], Turn]:
    """ALE's vector environment alone, with this recipe's lanes, threads and frames."""
    from ale_py.vector_env import AtariVectorEnv

    env, needs = config.env, make_observation(config.observation).needs
    pool = AtariVectorEnv(
        rom_ids_by_game()[env.game],
        env.num_lanes,
        num_threads=env.num_threads,
        thread_affinity_offset=affinity_offset(env.num_threads, env.num_lanes),
        img_height=needs.height,
        img_width=needs.width,
        grayscale=needs.color == "gray",
        stack_num=needs.stack,
        frameskip=env.frame_skip,
        repeat_action_probability=env.sticky_action_probability,
    )
    pool.reset(seed=0)
    return {}, _stepping(env.num_lanes, int(pool.single_action_space.n), pool.step)


def _training(config: Config) -> tuple[dict[str, Any], Turn]:
    """Training with the calls of the training loop: ask, collect, tell, and fetching the metrics of each iteration."""
    keep_compiled_code()
    experiment = build(config)
    init_key, learner_key, act_key = jax.random.split(jax.random.key(0), 3)
    state = experiment.learner.init(learner_key, jax.jit(experiment.policy.init)(init_key))
    experiment.rollout.reset(lane_seeds(1, 0, config.env.num_lanes))
    facts = {
        "operations_per_agent_step": operations_per_agent_step(config, experiment),
        "bytes_per_agent_step": bytes_per_agent_step(config, experiment, state.params),
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
    }
    iteration = 0

    def turn(seconds: float) -> dict[str, float]:
        nonlocal state, iteration
        start, iterations = time.perf_counter(), 0
        phases = {"emulate": 0.0, "act": 0.0, "learn": 0.0}
        while not iterations or time.perf_counter() - start < seconds:
            if experiment.whole_iterations:
                key = jax.random.fold_in(act_key, iteration)
                state, _, _ = experiment.whole_iterations(state, key, 0.0)
                iteration, iterations = iteration + 1, iterations + 1
                continue
            population = experiment.learner.ask(state, jnp.zeros(1, jnp.int32))
            players = FixedPopulation(population, config.env.num_lanes)
            key = jax.random.fold_in(act_key, iteration)
            experience, played = experiment.rollout.collect(players, experiment.rollout_agent_steps, key)
            told = time.perf_counter()
            state, metrics = experiment.learner.tell(state, [experience], experience.episodes, 0.0)
            jax.device_get(metrics)
            phases["emulate"] += played.emulate
            phases["act"] += played.act
            phases["learn"] += time.perf_counter() - told
            iteration += 1
            iterations += 1
        agent_steps = iterations * experiment.rollout_agent_steps * config.env.num_lanes
        return {"agent_steps": agent_steps, "seconds": time.perf_counter() - start, **phases}

    turn(0.0)  # compiles
    turn(0.0)  # compiles what only the second iteration needs
    return facts, turn


def _population(num_members: int, config: Config) -> tuple[dict[str, Any], Turn]:
    """Rollouts of random members that share the lanes evenly, without a tape and without learning."""
    keep_compiled_code()
    experiment = build(config)
    init_keys = jax.random.split(jax.random.key(0), num_members)
    population = jax.jit(lambda keys: jax.lax.map(experiment.policy.init, keys))(
        init_keys
    )  # vmap would double the peak
    rollout = Rollout(experiment.rollout.pools, experiment.policy, experiment.observation, keeps_tape=False)
    rollout.reset(lane_seeds(1, 0, rollout.num_lanes))
    players = FixedPopulation(population, rollout.num_lanes)
    facts = {"parameters": sum(x.size for x in jax.tree.leaves(population)) // num_members}
    collected = 0

    def turn(seconds: float) -> dict[str, float]:
        nonlocal collected
        start, agent_steps = time.perf_counter(), 0
        phases = {"emulate": 0.0, "act": 0.0, "learn": 0.0}
        while not agent_steps or time.perf_counter() - start < seconds:
            key = jax.random.fold_in(jax.random.key(1), collected)
            experience, played = rollout.collect(players, experiment.rollout_agent_steps, key)
            phases["emulate"] += played.emulate
            phases["act"] += played.act
            agent_steps += experience.reward.size
            collected += 1
        return {"agent_steps": agent_steps, "seconds": time.perf_counter() - start, **phases}

    turn(0.0)  # compiles
    return facts, turn


def _members(num_members: int, config: Config) -> tuple[dict[str, Any], Turn]:
    """P members on environments in JAX, each with lanes and a state of its own, trained as one program."""
    experiment = build(config)
    one = experiment.rollout
    pool = make_env(config.env, experiment.observation.needs, num_members * one.num_lanes)
    act = make_act(experiment.policy, experiment.observation, pool.spec.axes, pool.num_lanes)
    steps = experiment.rollout_agent_steps
    iterate = jax.jit(make_iteration(act, pool, experiment.learner, one.encoded, steps), donate_argnums=(0, 1))
    keys = jax.random.split(jax.random.key(0), num_members)
    state = jax.jit(jax.vmap(lambda key: experiment.learner.init(key, experiment.policy.init(key))))(keys)
    pool.reset(lane_seeds(1, 0, pool.num_lanes))
    lanes, iteration = pool.lanes, 0
    scheduled = {name: jnp.full(num_members, value) for name, value in experiment.learner.scheduled(0.0).items()}

    def turn(seconds: float) -> dict[str, float]:
        nonlocal state, lanes, iteration
        start, agent_steps = time.perf_counter(), 0
        while not agent_steps or time.perf_counter() - start < seconds:
            folded = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, iteration)
            iterated = iterate(state, lanes, folded, scheduled)
            state, lanes = iterated.state, iterated.lanes
            jax.device_get((iterated.answers, iterated.metrics))
            agent_steps += steps * pool.num_lanes
            iteration += 1
        return {"agent_steps": agent_steps, "seconds": time.perf_counter() - start}

    turn(0.0)  # compiles
    return {}, turn


KINDS = {"machine": _machine, "raw_envpool": _raw_envpool, "raw_ale": _raw_ale, "training": _training}

if __name__ == "__main__":
    main()
