"""A Gymnasium environment that does what its options say: it counts agent steps, and misbehaves at the third."""

import os
import random
import sys
import time
from typing import Any, ClassVar

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

    def _misbehave(self, answer: list[Any]) -> list[Any]:  # noqa: PLR0912 - a list of faults
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
            case "swapped":
                return [answer[0], {}, 0.0, False, False]
            case "flags":
                return [*answer[:2], np.zeros(2, bool), False, {}]
            case "numpy":
                return [np.zeros(2).reshape(3), *answer[1:]]
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


class Right(gymnasium.Env):
    """An environment without faults, of which those below have one each."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None):
        self.observation_space, self.action_space, self.render_mode = SPACES["vector"], Discrete(2), render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        return np.zeros(2), {}

    def step(self, action: Any):
        return np.zeros(2), 0.0, False, False, {}

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


class NoSpace(Right):
    def __init__(self):
        pass


class Three(Right):
    def __init__(self):
        super().__init__()
        self.action_space = 3


class NoEnv:
    pass


class NoSeed(Right):
    def reset(self):
        return np.zeros(2), {}


class ObservationAlone(Right):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        return np.zeros(2)


class NoReset(Right):
    reset = gymnasium.Env.reset


class NoStep(Right):
    step = gymnasium.Env.step


class NoAction(Right):
    def step(self):
        return np.zeros(2), 0.0, False, False, {}


class Nothing(Right):
    def step(self, action: Any):
        pass


class TakesNoMode(Right):
    def __init__(self):
        super().__init__()


class KeepsNoMode(Right):
    def __init__(self, render_mode: str | None = None):
        super().__init__()


class NoRender(Right):
    render = gymnasium.Env.render


class RendersNothing(Right):
    def render(self) -> Any:
        pass


FAULTY = [NoSpace, Three, NoEnv, NoSeed, ObservationAlone, NoReset, NoStep, NoAction, Nothing]
FAULTY += [TakesNoMode, KeepsNoMode, NoRender, RendersNothing]

if "Odd-v0" not in gymnasium.registry:  # pytest imports this file, too, to look for doctests
    gymnasium.register("Odd-v0", Odd)
    gymnasium.register("Right-v0", Right)
    for faulty in FAULTY:
        gymnasium.register(f"{faulty.__name__}-v0", faulty)
    gymnasium.register("Short-v0", Odd, max_episode_steps=4, kwargs={"size": 3})
