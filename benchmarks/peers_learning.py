"""Trains Stable-Baselines3 for a limit of seconds a game and plays fresh games: what jaxpg's half hour stands beside.

  python benchmarks/peers_learning.py --trainers ppo a2c --games Breakout Qbert --seconds 1800 --out runs/peers

Settings are those that RL Baselines3 Zoo publishes for Atari, with one difference: the learning rate and PPO's clip
range fall linearly with the seconds, because seconds are the limit, not agent steps. Games are ALE's version 5: sticky
actions of 0.25, frame skip 4. The trainers' wrappers end an episode at a lost life and clip rewards while training; the
fresh games are whole, their scores unclipped and their actions sampled. Writes one JSON file a run, and prints a table.
A second call makes only the runs that are missing. The machine should do nothing else meanwhile.
Needs ``pip install '.[peers]'``.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack

EPISODES = 100
STICKY = 0.25
NUM_LANES = {"ppo": 8, "a2c": 16}

Schedule = Callable[[float], float]


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", choices=NUM_LANES, default=list(NUM_LANES), help="default both")
    parser.add_argument("--games", nargs="+", required=True, help="games of ALE, such as Breakout")
    parser.add_argument("--seconds", type=float, default=1800, help="seconds of training a run (default 1800)")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print("| trainer | game | agent steps | mean return |\n|---|---|---|---|", flush=True)
    for game in arguments.games:
        for trainer in arguments.trainers:
            path = arguments.out / f"{trainer}_{game}_{arguments.seed}.json"
            if not path.exists():
                result = trained(trainer, game, arguments.seconds, arguments.seed)
                path.write_text(json.dumps(result) + "\n")
            print(row(trainer, game, json.loads(path.read_text())), flush=True)


def row(trainer: str, game: str, result: dict[str, Any]) -> str:
    """The result of one run as a line of the table, with the standard error of the mean."""
    returns = result["returns"]
    error = np.std(returns, ddof=1) / len(returns) ** 0.5
    return f"| {trainer} | {game} | {result['agent_steps']:,} | {np.mean(returns):,.1f} +- {error:,.1f} |"


def trained(trainer: str, game: str, seconds: float, seed: int) -> dict[str, Any]:
    """Trains one seed for ``seconds`` and plays fresh games.

    Returns:
      The agent steps of training, and the scores of the fresh games.
    """
    learning = environments(game, NUM_LANES[trainer], seed, whole_games=False)
    start = time.monotonic()

    def falling(value: float) -> Schedule:
        return lambda _: value * max(0.0, 1.0 - (time.monotonic() - start) / seconds)

    model = MAKE[trainer](learning, falling, seed)
    model.learn(10**9, callback=UntilTheTimeIsUp(start + seconds))
    learning.close()
    fresh = environments(game, 2, seed + 1_000_000, whole_games=True)
    scores, _ = evaluate_policy(model, fresh, EPISODES, deterministic=False, return_episode_rewards=True)
    fresh.close()
    return {"agent_steps": model.num_timesteps, "returns": scores}


def environments(game: str, num_lanes: int, seed: int, whole_games: bool) -> VecEnv:
    """The library's Atari environments in processes of their own, four frames stacked."""
    wrapped = partial(AtariWrapper, terminal_on_life_loss=not whole_games, clip_reward=not whole_games)
    lanes = make_vec_env(partial(make_game, game), num_lanes, seed, wrapper_class=wrapped, vec_env_cls=SubprocVecEnv)
    return VecFrameStack(lanes, 4)


def make_game(game: str) -> gymnasium.Env:
    """Version 5 of a game, whose frames the wrapper skips."""
    gymnasium.register_envs(ale_py)
    return gymnasium.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=STICKY)


def make_ppo(lanes: VecEnv, falling: Callable[[float], Schedule], seed: int) -> PPO:
    """PPO as RL Baselines3 Zoo sets it for Atari."""
    return PPO(
        *("CnnPolicy", lanes, falling(2.5e-4)),
        n_steps=128,
        n_epochs=4,
        batch_size=256,
        clip_range=falling(0.1),
        vf_coef=0.5,
        ent_coef=0.01,
        seed=seed,
    )


def make_a2c(lanes: VecEnv, falling: Callable[[float], Schedule], seed: int) -> A2C:
    """A2C as RL Baselines3 Zoo sets it for Atari, whose learning rate does not fall."""
    del falling
    optimizer = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
    return A2C("CnnPolicy", lanes, ent_coef=0.01, vf_coef=0.25, policy_kwargs=optimizer, seed=seed)


class UntilTheTimeIsUp(BaseCallback):
    """Ends training at a time of the monotonic clock."""

    def __init__(self, end: float):
        super().__init__()
        self._end = end

    def _on_step(self) -> bool:
        return time.monotonic() < self._end


MAKE = {"ppo": make_ppo, "a2c": make_a2c}

if __name__ == "__main__":
    main()
