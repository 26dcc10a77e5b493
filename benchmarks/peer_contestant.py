"""Another trainer as one side of a speed comparison, in its own process with the protocol of ``contestant.py``.

  python benchmarks/peer_contestant.py sb3_a2c Pong 16

Libraries are used as their documentation says, with their own defaults except for the number of lanes. The loops of the
two notebooks follow the notebooks' descriptions: one environment, and one policy call per agent step. Their work is
whole games with the learning after each game.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import ale_py
import gymnasium
import numpy as np

Unit = Callable[[], int]
"""Function that does one indivisible piece of work and returns its number of agent steps."""

PPO_SETTINGS = {"n_steps": 128, "n_epochs": 4, "batch_size": 256}
"""The library's tuned settings for Atari. Its defaults are for small networks."""

N1_RATE = 0.07
N2_EPOCHS, N2_MINIBATCH = 5, 32


def main() -> None:
    """Runs the command."""
    kind, game, lanes = sys.argv[1:]
    gymnasium.register_envs(ale_py)
    unit = KINDS[kind](game, int(lanes))
    unit()  # compiles, and fills buffers
    _say({"kind": kind, "game": game, "lanes": int(lanes)})
    for line in sys.stdin:
        start, agent_steps = time.perf_counter(), 0
        while not agent_steps or time.perf_counter() - start < float(line):
            agent_steps += unit()
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _say({"agent_steps": agent_steps, "seconds": time.perf_counter() - start, "peak_bytes": peak_bytes})


def _say(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _library(algorithm: Any, game: str, lanes: int, **settings: int) -> Unit:
    """One rollout and its update, by a trainer with Stable-Baselines3's interface and its own Nature CNN."""
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    environment = make_atari_env(f"{game}NoFrameskip-v4", n_envs=lanes, seed=0, vec_env_cls=SubprocVecEnv)
    model = algorithm("CnnPolicy", VecFrameStack(environment, 4), seed=0, **settings)
    agent_steps = model.n_steps * lanes

    def unit() -> int:
        model.learn(agent_steps, reset_num_timesteps=False)
        return agent_steps

    return unit


def _sb3_a2c(game: str, lanes: int) -> Unit:
    from stable_baselines3 import A2C

    return _library(A2C, game, lanes)


def _sb3_ppo(game: str, lanes: int) -> Unit:
    from stable_baselines3 import PPO

    return _library(PPO, game, lanes, **PPO_SETTINGS)


def _sbx_ppo(game: str, lanes: int) -> Unit:
    from sbx import PPO

    return _library(PPO, game, lanes, **PPO_SETTINGS)


def _jax_ppo(game: str, lanes: int) -> Unit:
    from jax_ppo import training

    return training(game, lanes)


def _notebook_n1(game: str, lanes: int) -> Unit:
    """One game with a linear softmax policy on 33,600 gray pixels, then one gradient step for each agent step."""
    del lanes
    gray = gymnasium.wrappers.GrayscaleObservation(gymnasium.make(f"ALE/{game}-v5"))
    environment = gymnasium.wrappers.FlattenObservation(gray)
    num_actions = int(environment.action_space.n)  # type: ignore[attr-defined]
    weight = np.random.default_rng(0).uniform(size=(environment.observation_space.shape[0], num_actions))  # type: ignore[index]

    def unit() -> int:
        nonlocal weight
        seen, chosen, shares, score = [], [], [], 0.0
        state, over = environment.reset()[0], False
        while not over:
            logits = state @ weight
            probabilities = np.exp(logits - logits.max())
            probabilities /= probabilities.sum()
            action = int(np.argmax(probabilities))
            seen.append(state)
            chosen.append(action)
            shares.append(probabilities)
            state, reward, terminated, truncated, _ = environment.step(action)
            score += float(reward)
            over = terminated or truncated
        for t, (state_then, action, probabilities) in enumerate(zip(seen, chosen, shares, strict=True)):
            gradient = np.eye(num_actions)[action] - probabilities  # of log pi, by the softmax's Jacobian
            weight = weight + N1_RATE * np.outer(state_then, gradient) * (score - t)
        return len(seen)

    return unit


def _notebook_n2(game: str, lanes: int) -> Unit:
    """One game with a network of 6,400, 200 and 1 units and two actions, up and down.

    After the game follow five epochs of minibatches of 32.
    """
    import torch

    del lanes
    environment = gymnasium.make(f"ALE/{game}-v5")
    network = torch.nn.Sequential(
        torch.nn.Linear(6_400, 200, bias=False),
        torch.nn.ReLU(),
        torch.nn.Linear(200, 1, bias=False),
        torch.nn.Sigmoid(),
    )
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-4)
    rng = np.random.default_rng(0)

    def unit() -> int:
        seen, ups, rewards = [], [], []
        frame, over, before = environment.reset()[0], False, None
        while not over:
            red = frame[35:195:2, ::2, 0].astype(np.float32)
            red[(red == 144) | (red == 109)] = 0
            difference = np.zeros_like(red) if before is None else red - before
            before = red
            picture = torch.from_numpy(difference.reshape(-1) / max(np.abs(difference).max(), 1.0))
            with torch.no_grad():
                up = rng.uniform() < network(picture).item()
            frame, reward, terminated, truncated, _ = environment.step(2 if up else 3)
            seen.append(picture)
            ups.append(float(up))
            rewards.append(float(reward))
            over = terminated or truncated
        pictures, labels = torch.stack(seen), torch.tensor(ups)
        weights = torch.from_numpy(_standardised_returns(np.array(rewards))).float()
        for _ in range(N2_EPOCHS):
            for rows in torch.split(torch.from_numpy(rng.permutation(len(seen))), N2_MINIBATCH):
                probability = network(pictures[rows])[:, 0].clamp(0.05, 0.95)
                loss = torch.nn.functional.binary_cross_entropy(probability, labels[rows], weights[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return len(seen)

    return unit


def _standardised_returns(rewards: np.ndarray, discount: float = 0.99) -> np.ndarray:
    """Discounted returns, computed backwards, restarted at each point scored, and standardised."""
    returns, running = np.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        running = rewards[t] if rewards[t] else running * discount
        returns[t] = running
    return (returns - returns.mean()) / max(returns.std(), 1e-8)


KINDS: dict[str, Callable[[str, int], Unit]] = {
    "sb3_a2c": _sb3_a2c,
    "sb3_ppo": _sb3_ppo,
    "sbx_ppo": _sbx_ppo,
    "jax_ppo": _jax_ppo,
    "notebook_n1": _notebook_n1,
    "notebook_n2": _notebook_n2,
}

if __name__ == "__main__":
    main()
