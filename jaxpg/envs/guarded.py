"""A guard around a user's own environment: mistakes in its code become sentences, and wrong answers are noticed."""

import numpy as np

from jaxpg.core.errors import FaultError, UserError
from jaxpg.core.types import EnvSpec, TimeStep, VectorEnv
from jaxpg.core.user_modules import own_code

METHODS = {"reset": "reset(self, seeds)", "send": "send(self, actions)", "recv": "recv(self)", "close": "close(self)"}
FLAGS = ("terminated", "truncated", "life_lost", "acted")


class Guarded:
    """A user's environment. What its methods raise becomes a FaultError, so that the run is saved.

    Args:
      env: the user's environment.
      what: how error sentences call it.

    Raises:
      UserError: the environment has no ``spec`` of the type ``EnvSpec``, or another number of lanes than asked for.
    """

    def __init__(self, env: VectorEnv, what: str, num_lanes: int):
        spec, lanes = getattr(env, "spec", None), getattr(env, "num_lanes", None)
        if not isinstance(spec, EnvSpec):
            raise UserError(f"{what}: its spec must be an EnvSpec, not {type(spec).__name__}")
        if lanes != num_lanes:
            raise UserError(f"{what}: its num_lanes must be {num_lanes}, as asked for, not {lanes!r}")
        self.num_lanes, self.spec = num_lanes, spec
        self._env, self._what = env, what

    def reset(self, seeds: np.ndarray) -> None:
        self._call("reset", seeds)

    def send(self, actions: np.ndarray) -> None:
        self._call("send", actions)

    def recv(self) -> TimeStep:
        step = self._call("recv")
        if not isinstance(step, TimeStep):
            raise FaultError(f"{self._what}: recv: it must return a TimeStep, not {type(step).__name__}")
        spec = self.spec
        return TimeStep(
            self._array(step, "observation", spec.observation_shape, spec.observation_dtype),
            self._array(step, "reward", (), np.dtype(np.float32)),
            *(self._array(step, name, (), np.dtype(bool)) for name in FLAGS),
        )

    def close(self) -> None:
        self._call("close")

    def _call(self, name: str, *arguments: np.ndarray) -> object:
        method = getattr(self._env, name, None)
        try:
            with own_code(f"{self._what}: {name}", type(self._env), METHODS[name]):
                return method(*arguments)  # type: ignore[misc]  # None where the user forgot the method
        except UserError as error:
            raise FaultError(str(error)) from error

    def _array(self, step: TimeStep, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """One part of the answer as an array of that shape, for every lane, and dtype."""
        found = np.asarray(getattr(step, name))
        if found.shape != (self.num_lanes, *shape):
            raise FaultError(
                f"{self._what}: recv: the {name} must have the shape {(self.num_lanes, *shape)}, not {found.shape}"
            )
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise FaultError(f"{self._what}: recv: the {name} is infinite or NaN")
        return found.astype(dtype, copy=False)
