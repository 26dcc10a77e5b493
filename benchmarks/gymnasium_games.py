"""Plays a run's policy in plain Gymnasium, in ``ALE/<Game>-v5`` with its defaults: an independent check of the score.

The defaults are frame skip 4, sticky actions 0.25, no no-ops, only the last frame, and whole games of at most 108,000
frames. The policy of the newest checkpoint takes the most probable action. Only the observations ``ram`` and
``flat_gray`` can be played. Gymnasium itself makes these observations (``flat_gray`` with GrayscaleObservation), so
only the policy comes from jaxpg.
"""

import argparse
import sys
import time
from pathlib import Path

import ale_py
import gymnasium
import numpy as np

import jaxpg


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first game; the next ones follow")
    arguments = parser.parse_args()
    config = jaxpg.load_recipe(arguments.run / "config.yaml")
    name = config.observation.name
    if name not in ("ram", "flat_gray") or config.env.actions:
        sys.exit(f"{arguments.run}: only the observations ram and flat_gray with all actions can be played here")
    policy = jaxpg.load_policy(arguments.run)
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
            action = int(policy(seen.reshape(policy.observation_shape)).action)
            seen, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
        if sys.stdout.isatty() or game % 10 == 9:
            error = np.std(returns, ddof=1) / np.sqrt(len(returns)) if game else 0.0
            seconds = time.perf_counter() - start
            print(f"{len(returns)} games: mean {np.mean(returns):.1f} +- {error:.1f}, {seconds:.1f} s", flush=True)
    env.close()


if __name__ == "__main__":
    main()
