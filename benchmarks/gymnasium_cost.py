"""Measures what an agent step of a Gymnasium environment costs, beside Gymnasium's own vector loop.

  python benchmarks/gymnasium_cost.py CartPole-v1 --lanes 16

Three contestants take turns in one process, all without learning. Gymnasium's ``SyncVectorEnv``, as ``make_vec`` makes
it, plays random actions. jaxpg's lanes play random actions, too. jaxpg's rollouts play the actions of a small network.
Prints the median cost of each, and how it compares with Gymnasium's. The machine should do nothing else meanwhile.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import gymnasium
import jax
import numpy as np

from jaxpg.cli import open_recipe
from jaxpg.envs import make_env
from jaxpg.experiment import build
from jaxpg.kernel.players import FixedPopulation
from jaxpg.policies.observations import ObservationConfig, make_observation

AGENT_STEPS = 250
"""Agent steps of each lane between two looks at the clock."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("game", nargs="?", default="CartPole-v1", help="id with a vector observation")
    parser.add_argument("--lanes", type=int, default=16, help="default 16")
    parser.add_argument("--workers", type=int, default=0, help="env.workers of jaxpg (default 0)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each; medians are reported (default 9)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one turn (default 1)")
    arguments = parser.parse_args()
    contestants = {
        "Gymnasium, random actions": gymnasiums_own(arguments.game, arguments.lanes),
        "jaxpg's lanes, random actions": lanes(arguments.game, arguments.lanes, arguments.workers),
        "jaxpg's rollouts, a network's actions": rollouts(arguments.game, arguments.lanes, arguments.workers),
    }
    costs: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, play in contestants.items():
            costs[name].append(microseconds(play, arguments.seconds) / arguments.lanes)
    first = median(next(iter(costs.values())))
    print(f"| {arguments.lanes} lanes of {arguments.game} | us per agent step | times Gymnasium's |\n|---|---|---|")
    for name, measured in costs.items():
        print(f"| {name} | {median(measured):.2f} | {median(measured) / first:.2f} |")


def microseconds(play: Callable[[], None], seconds: float) -> float:
    """Microseconds of one agent step of all lanes, where ``play`` plays ``AGENT_STEPS`` of them."""
    start, played = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not played:
        play()
        played += AGENT_STEPS
    return 1e6 * spent / played


def gymnasiums_own(game: str, num_lanes: int) -> Callable[[], None]:
    """Gymnasium's vector loop."""
    env = gymnasium.make_vec(game, num_envs=num_lanes, vectorization_mode="sync")
    env.reset(seed=1)
    env.action_space.seed(1)

    def play() -> None:
        for _ in range(AGENT_STEPS):
            env.step(env.action_space.sample())

    return play


def lanes(game: str, num_lanes: int, workers: int) -> Callable[[], None]:
    """The backend's lanes."""
    config = open_recipe(
        {"env": {"game": game, "backend": "gymnasium", "num_lanes": num_lanes, "workers": workers}}
    ).env
    env = make_env(config, make_observation(ObservationConfig(name="vector")).needs, num_lanes)
    env.reset(np.arange(num_lanes))
    env.recv()
    actions = np.random.default_rng(1).integers(env.spec.num_actions, size=(AGENT_STEPS, num_lanes))

    def play() -> None:
        for row in actions:
            env.send(row)
            env.recv()

    return play


def rollouts(game: str, num_lanes: int, workers: int) -> Callable[[], None]:
    """The kernel's rollouts with the recipe ``cartpole``."""
    env = {"env.game": game, "env.backend": "gymnasium", "env.num_lanes": num_lanes, "env.workers": workers}
    experiment = build(open_recipe("cartpole", env))
    rollout, key = experiment.rollout, jax.random.key(1)
    population = jax.tree.map(lambda x: x[None], experiment.policy.init(key))
    rollout.reset(np.arange(num_lanes))
    players = FixedPopulation(population, num_lanes)

    def play() -> None:
        rollout.collect(players, AGENT_STEPS, key)

    play()  # compiles
    return play


if __name__ == "__main__":
    main()
