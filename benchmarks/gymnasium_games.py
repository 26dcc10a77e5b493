"""Plays a run's policy in plain Gymnasium, ``ALE/<Game>-v5`` as it comes: an independent look at its score.

Frame skip 4, sticky actions 0.25, no no-ops, the last frame only, whole games of at most 108,000 frames. The
newest checkpoint is played, with the most probable action. For observations ``ram`` and ``flat_gray``, which are
Gymnasium's own here, GrayscaleObservation for the second, so that nothing but the policy is jaxpg's.
"""

import argparse
import sys
import time
from pathlib import Path

import ale_py
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.config import load_run
from jaxpg.experiment import Player, build
from jaxpg.run.saved_run import restore_params


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first game; the next ones follow")
    arguments = parser.parse_args()
    config = load_run(str(arguments.run))
    name = config.observation.name
    if name not in ("ram", "flat_gray") or config.env.actions:
        sys.exit(f"{arguments.run}: only the observations ram and flat_gray with all actions can be played here")
    experiment = build(config, Player(config.env))
    params, _ = restore_params(arguments.run, experiment, "latest")
    experiment.rollout.close()

    @jax.jit
    def act(params, seen):
        return jnp.argmax(experiment.policy.apply(params, experiment.observation.decode(seen.reshape(-1)))[0])

    gymnasium.register_envs(ale_py)
    env = gymnasium.make(f"ALE/{config.env.game}-v5", obs_type="ram" if name == "ram" else "rgb")
    if name == "flat_gray":
        env = gymnasium.wrappers.GrayscaleObservation(env)
    returns = []
    start = time.perf_counter()
    for game in range(arguments.games):
        seen, _ = env.reset(seed=arguments.seed + game)
        total, over = 0.0, False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(int(act(params, seen)))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
        if sys.stdout.isatty() or game % 10 == 9:
            error = np.std(returns, ddof=1) / np.sqrt(len(returns)) if game else 0.0
            seconds = time.perf_counter() - start
            print(f"{len(returns)} games: mean {np.mean(returns):.1f} +- {error:.1f}, {seconds:.1f} s", flush=True)
    env.close()


if __name__ == "__main__":
    main()
