"""Compares random search with the loop that most people write: one Gymnasium environment, one product per step.

Both programs take turns. They play Ms. Pac-Man with random linear policies on 33,600 gray pixels. Prints a table and
writes ``search_speed.json`` and ``search_speed.md``. Speeds are agent steps per second. The lane utilisation is the
share of jaxpg's agent steps that belong to a candidate's game, as long as the queue still has games.
"""

import time
from functools import partial
from pathlib import Path

import ale_py
import gymnasium
import jax
import numpy as np
from turns import Row, parse_turns, report, say

from jaxpg.config import Config, load_recipe
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.players import CandidateQueue, beginning


def main() -> None:
    """Runs the command."""
    arguments = parse_turns(__doc__, "configs/mspacman_random_search.yaml")
    config = load_recipe(Path(arguments.recipe))
    loop, search = _loop(), _Search(config)
    search.turn(1.0)  # compiles
    rows: list[Row] = []
    for _ in range(arguments.rounds):
        row = {"plain loop": loop(arguments.seconds), "jaxpg": search.turn(arguments.seconds)}
        row["ratio"] = row["jaxpg"] / row["plain loop"]
        row["lane utilisation"] = search.utilisation
        rows.append(row)
        say(row)
    report(config, rows, arguments.out, "search_speed")


def _loop():
    """The plain loop: one environment, whose action is the largest product of the newest frame and the weights."""
    gymnasium.register_envs(ale_py)
    env = gymnasium.wrappers.GrayscaleObservation(gymnasium.make("ALE/MsPacman-v5"))
    rng = np.random.default_rng(0)

    def turn(seconds: float) -> float:
        weights = rng.random((33_600, 9), dtype=np.float32)
        state, _ = env.reset(seed=0)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            action = np.argmax(state.reshape(-1).astype(np.float32) @ weights)
            state, _, terminated, truncated, _ = env.step(action)
            count += 1
            if terminated or truncated:
                weights = rng.random((33_600, 9), dtype=np.float32)
                state, _ = env.reset()
        return count / (time.perf_counter() - start)

    return turn


class _Search:
    """The loop of the training command, over an endless queue of candidates."""

    def __init__(self, config: Config):
        self._experiment = build(config)
        init_key, learner_key, self._key = jax.random.split(jax.random.key(0), 3)
        learner = self._experiment.learner
        self._state = learner.init(learner_key, self._experiment.policy.init(init_key))
        self._experiment.rollout.reset(lane_seeds(1, 0, config.env.num_lanes))
        self._queue = CandidateQueue(
            beginning(np.arange(10**6), config.env.num_lanes, 1), partial(learner.ask, self._state)
        )
        self.utilisation = 0.0
        """Lane utilisation of the last turn."""

    def turn(self, seconds: float) -> float:
        start, count, useful = time.perf_counter(), 0, 0
        while time.perf_counter() - start < seconds:
            experience, _ = self._experiment.rollout.collect(
                self._queue, self._experiment.rollout_agent_steps, self._key
            )
            count += experience.acted.size
            useful += experience.acted.sum()
        self.utilisation = useful / count
        return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
