"""A Gymnasium environment that does what its options say: it counts agent steps, and misbehaves at the third."""

import os
import random
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text

SPACES: dict[str, Space] = {
    "vector": Box(-9.0, 9.0, (2,), np.float64),
    "four": Box(-9.0, 9.0, (4,), np.float32),
    "number": Discrete(5, start=2),
    "scalar": Box(-9, 9, (), np.int64),
    "flags": MultiBinary(3),
    "gray": Box(0, 255, (4, 6), np.uint8),
    "color": Box(0, 255, (4, 6, 3), np.uint8),
    "floats": Box(0.0, 1.0, (3, 5, 4), np.float32),
    "dict": Dict({"a": Box(0, 1, (2,))}),
    "words": Text(4),
    "two": MultiDiscrete([2, 3]),
}
STEP = 3
"""The agent step of an episode at which the environment misbehaves."""


class Odd(gymnasium.Env):
    """An episode lasts ``length`` agent steps. The observation counts them, beside a number from the lane's seed."""

    def __init__(self, *, size: int, sees: str = "vector", acts: str = "", does: str = "", length: int = 6):
        self.observation_space, self._does, self._length = SPACES[sees], does, length
        self.action_space = SPACES[acts] if acts else Discrete(size, start=1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._count, self._luck = 0, float(self.np_random.random())
        if self._does == "reset":
            raise ValueError("no reset today")
        if "chance" in self._does:
            self._luck = random.random()
        return self._observe(), {}

    def step(self, action: Any):
        assert self.action_space.contains(action), action
        self._count += 1
        ends, info = self._count == self._length, {"TimeLimit.truncated": False} if self._does == "honest" else {}
        answer = [self._observe(), float(action), ends, False, info]
        if self._count == 40 and "late" in self._does:
            raise RuntimeError("it is late")
        if self._count == STEP:
            answer = self._misbehave(answer)
        return tuple(answer)

    def _misbehave(self, answer: list[Any]) -> list[Any]:
        match self._does:
            case "raise":
                raise RuntimeError("the rope broke\nand more")
            case "exit":
                sys.exit("out of here")
            case "die":
                os._exit(3)
            case "hang":
                time.sleep(60)
            case "reward":
                return [answer[0], float("nan"), *answer[2:]]
            case "observation":
                return [np.array([np.inf, 0.0]), *answer[1:]]
            case "shape":
                return [np.zeros(3), *answer[1:]]
            case "dtype":
                return [np.zeros(2, "<U1"), *answer[1:]]
            case "number":
                return [9, *answer[1:]]
            case "four":
                return answer[:4]
            case "lie":
                return [*answer[:2], True, False, {"TimeLimit.truncated": True}]
            case "silent":
                return [*answer[:2], False, True, {"TimeLimit.truncated": False}]
        return answer

    def _observe(self) -> Any:
        space = self.observation_space
        if isinstance(space, Discrete):
            return min(2 + self._count, 6)
        if isinstance(space, Box) and space.shape == (2,):
            return np.array([self._count, self._luck])
        if "chance" in self._does:
            return np.full(space.shape, self._luck, space.dtype)
        return np.full(space.shape, self._count, space.dtype)


if "Odd-v0" not in gymnasium.registry:  # pytest imports this file, too, to look for doctests
    gymnasium.register("Odd-v0", Odd)
    gymnasium.register("Short-v0", Odd, max_episode_steps=4, kwargs={"size": 3})
