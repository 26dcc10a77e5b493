"""One lane of a Gymnasium environment: what goes wrong in it becomes a sentence that names the user's file."""

import traceback
from collections.abc import Mapping
from typing import Any

import gymnasium

from jaxpg.core.errors import FaultError, first_line
from jaxpg.core.user_modules import place_of, wrong_signature

SIGNATURES = {
    "reset": "reset(self, *, seed, options)",
    "step": "step(self, action)",
    "render": "render(self)",
}
"""What an environment's methods must take."""
RETURNS = {
    "reset": "(observation, info)",
    "step": "(observation, reward, terminated, truncated, info)",
    "render": "a picture, uint8[H, W, 3]",
}
"""What they must return."""
_LIMIT = "TimeLimit.truncated"
"""Key of ``info`` in which older environments say whether a time limit ended the episode."""
_NO_INFO: dict[str, Any] = {}


def what_happened(error: BaseException, file: str | None = None) -> str:
    """The kind of an error, its first line, and the place that raised it: the innermost line of ``file``, or of all."""
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    words = first_line(error) if isinstance(error, Exception) else str(error)
    return f"{type(error).__name__}: {words} ({last.filename}:{last.lineno})"


class Lane(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Turns what goes wrong in one lane into a sentence. Drops ``info``, which costs time and which nobody reads.

    Args:
      env: the environment.
      name: how sentences call the lane.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str):
        super().__init__(env)
        self.name = name
        self.newest: Any = None
        """The newest observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            answer = self.env.reset(seed=seed, options=options)
            self.newest, info = answer
            if not isinstance(answer, tuple) or not isinstance(info, Mapping):  # an observation of two numbers alone
                raise TypeError(f"the info is a dict, not {type(info).__name__}")
        except (Exception, SystemExit) as error:
            raise self.fault("reset", error) from error
        return self.newest, _NO_INFO

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            number, terminated, truncated = float(reward), bool(terminated), bool(truncated)
            if _LIMIT in info:
                self._compare(bool(info[_LIMIT]), terminated, truncated)
        except FaultError:
            raise
        except (Exception, SystemExit) as error:
            raise self.fault("step", error) from error
        self.newest = observation
        return observation, number, terminated, truncated, _NO_INFO

    def fault(self, method: str, error: BaseException) -> FaultError:
        """Says what went wrong in a method, or what is wrong with what the method takes or returns.

        An error that has not passed through the file of the method is about what the method takes or returns.
        """
        kind = type(self.env.unwrapped)
        if getattr(kind, method) is getattr(gymnasium.Env, method):
            return FaultError(f"{self.name}: {place_of(kind)}{kind.__name__} has no method {SIGNATURES[method]}")
        code = getattr(getattr(kind, method), "__code__", None)
        file = code.co_filename if code else None
        inside = any(frame.filename == file for frame in traceback.extract_tb(error.__traceback__))
        if isinstance(error, TypeError | ValueError) and not inside:  # the call does not fit, or unpacking its answer
            words = wrong_signature(kind, SIGNATURES[method])
            returns = f"{self.place(method)} must return {RETURNS[method]}: {first_line(error)}"
            return FaultError(f"{self.name}: {words or returns}")
        return FaultError(f"{self.name}: {method} raised {what_happened(error, file)}")

    def place(self, method: str) -> str:
        """File, line and name of a method of the environment."""
        kind = type(self.env.unwrapped)
        return f"{place_of(getattr(kind, method))}{kind.__name__}.{method}"

    def _compare(self, said: bool, terminated: bool, truncated: bool) -> None:
        """Raises FaultError where ``info`` contradicts what ``step`` returned about a time limit."""
        if (said and not truncated) or (truncated and not said and not terminated):
            raise FaultError(
                f"{self.name}: info[{_LIMIT!r}] is {said}, but step returned terminated={terminated} and "
                f"truncated={truncated}; a time limit is truncated=True, and any other end terminated=True"
            )
