"""A group of Gymnasium lanes, which ``gymnasium.vector.SyncVectorEnv`` steps together.

A group plays in the trainer's process or in a process of its own (``env.workers``), which runs this file as a program.
This file therefore imports nothing that imports JAX: an import of JAX would take each process seconds and memory.
"""

import difflib
import json
import math
import mmap
import os
import re
import signal
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from jaxpg.core.errors import YOUR_OWN, FaultError, UserError, first_line
from jaxpg.core.user_modules import defined, import_all, place_of
from jaxpg.envs.gymnasium_lane import RETURNS, Lane, what_happened
from jaxpg.machine.console import say
from jaxpg.machine.parent import end_with_parent

RESET, STEP, DONE, FAILED = b"r", b"s", b"d", b"f"
"""The first byte of each message between the trainer and a process of lanes."""
LENGTH_BYTES = 4
"""Bytes of the number that says how long a text is."""
PICTURES = "rgb_array"
"""Gymnasium's render mode that returns pictures."""


class Making(NamedTuple):
    """What ``make_lane`` makes an environment from."""

    game: str
    """The environment's id."""
    options: Mapping[str, Any]
    """Further keyword arguments of ``gymnasium.make``."""
    max_episode_agent_steps: int


class Answers(NamedTuple):
    """What the lanes of a group answer. The arrays are valid until the next call."""

    observation: np.ndarray  # [N, *shape], in the dtype of the observation space
    reward: np.ndarray  # f64[N]
    terminated: np.ndarray  # bool[N]
    truncated: np.ndarray  # bool[N]


def make_lane(making: Making, *, draws: bool = False) -> tuple[gymnasium.Env[Any, Any], str]:
    """Makes one environment.

    Args:
      making: what the environment is made from.
      draws: whether ``render`` is to return pictures, if the environment can draw any.

    Returns:
      The environment, and what Gymnasium warned about while it was made, as one line; empty if there was no warning.

    Raises:
      UserError: the id is unknown, a package is missing, or the environment refuses the options.
    """
    game = making.game
    spec = _spec_of(game)
    options = {"disable_env_checker": True, **making.options, "max_episode_steps": _limit(making, spec)}
    if "render_mode" in making.options:
        raise UserError("env.options: render_mode is not an option, because record chooses it; leave it out")
    if draws:
        os.environ.setdefault(
            "SDL_VIDEODRIVER", "dummy"
        )  # pictures need no screen, and pygame complains if there is none
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = _drawing(game, options) if draws else _made(game, options)
    _check_spaces(game, env)
    words = [re.sub(r"\x1b\[[0-9;]*m", "", str(one.message)) for one in caught]
    said = [first_line(UserWarning(word.removeprefix("WARN: "))) for word in words if word.startswith("WARN: ")]
    return env, "; ".join(dict.fromkeys(said))


def _check_spaces(game: str, env: gymnasium.Env[Any, Any]) -> None:
    """Raises UserError where the environment lacks a space."""
    for name in ("observation_space", "action_space"):
        space, kind = getattr(env, name, None), type(env.unwrapped)
        if not isinstance(space, gymnasium.Space):
            raise UserError(
                f"env.game: {game}: {place_of(kind)}{kind.__name__} must set self.{name} in its __init__, to a space "
                f"such as gymnasium.spaces.Discrete(2)" + ("" if space is None else f", not {space!r}")
            )


def _drawing(game: str, options: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """Makes an environment that returns pictures, if it can. A printed sentence says why one that lists them cannot."""
    env = _made(game, options)
    if PICTURES not in (env.metadata.get("render_modes") or ()):
        return env
    try:
        drawing = _made(game, {**options, "render_mode": PICTURES})
        wrong = "does not keep it" if drawing.unwrapped.render_mode != PICTURES else ""
    except UserError as error:
        if "render_mode" not in str(error.__cause__):
            raise
        drawing, wrong = env, "takes no render_mode"
    if wrong:
        kind = type(env.unwrapped)
        say(
            f"jaxpg: {game} is shown as numbers, not as pictures: {place_of(kind)}{kind.__name__} lists {PICTURES} in "
            f"its metadata, but its __init__ {wrong}; give it render_mode=None, and set self.render_mode = render_mode"
        )
    if drawing is not env:
        env.close()
    return drawing


def _spec_of(game: str) -> Any:
    """Gymnasium's registered specification of an id. Raises UserError, with the nearest id, if there is none."""
    if ":" in game:
        module, _, name = game.partition(":")
        raise UserError(f"env.game: {game!r} would import {module}; give --imports {module} and --env.game {name}")
    spec = gymnasium.registry.get(game)
    if spec is None:
        known = {_without_version(name): name for name in gymnasium.registry}
        near = difflib.get_close_matches(_without_version(game), known, n=1, cutoff=0.7)
        hint = f"did you mean {known[near[0]]!r}?" if near else _unregistered(game) or YOUR_OWN
        raise UserError(f"env.game: Gymnasium knows no environment {game!r}; {hint}")
    if "shimmy" in str(spec.entry_point):
        raise UserError(f"env.game: {game} makes any environment of the old Gym; register yours under an id of its own")
    return spec


def _unregistered(game: str) -> str:
    """Names the environments of the user's imported files that have no id. Empty if there are none."""
    entries: list[Any] = [spec.entry_point for spec in gymnasium.registry.values()]
    texts = tuple(entry.partition(":")[2] for entry in entries if isinstance(entry, str))
    classes = tuple(entry for entry in entries if isinstance(entry, type))
    own = [one for one in defined(gymnasium.Env) if one.__name__ not in texts]
    own = [one for one in own if not any(issubclass(registered, one) for registered in classes)]
    if not own:
        return ""
    places = ", ".join(f"{place_of(one)}{one.__name__}" for one in own[:3])
    more = f" and {len(own) - 3} more" if len(own) > 3 else ""
    return (
        f"an environment of yours has no id: {places}{more}; "
        f"write gymnasium.register({game!r}, {own[0].__name__}) below it"
    )


def _without_version(game: str) -> str:
    """An id in lower case without its version, which any two ids may have in common."""
    return re.sub(r"-v\d+$", "", game).casefold()


def _limit(making: Making, spec: Any) -> int:
    """Agent steps after which an episode is cut: the smaller one of jaxpg's and the environment's own limit."""
    own = making.options.get("max_episode_steps", spec.max_episode_steps)
    if own is not None and not isinstance(own, int):
        raise UserError(f"env.options: max_episode_steps is a whole number, not {own!r}")
    return making.max_episode_agent_steps if own is None or own < 1 else min(own, making.max_episode_agent_steps)


def _made(game: str, options: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(game, **options)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        package = getattr(error, "name", None)
        hint = f"; pip install {package.partition('.')[0]}" if package else ""
        raise UserError(f"env.game: {game} needs a package that is missing: {first_line(error)}{hint}") from error
    except TypeError as error:
        if "argument" not in str(error):
            raise UserError(f"env.game: {game} cannot be made: {first_line(error)}") from error
        raise UserError(f"env.options: {game} cannot be made with these options: {first_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"env.game: {game} cannot be made: {what_happened(error)}") from error


class LaneGroup:
    """Lanes that are stepped one after another in this process. A lane whose episode ended ignores the next action.

    Args:
      making: what the environments are made from.
      lanes: the numbers of the lanes, for sentences.
      draws: whether ``picture`` is called.

    Raises:
      UserError: the environments cannot be made.
    """

    def __init__(self, making: Making, lanes: Sequence[int], *, draws: bool = False):
        makes = [partial(_named_lane, making, lane, draws=draws) for lane in lanes]
        try:
            self._vector: Any = SyncVectorEnv(makes, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)
        except RuntimeError as error:
            raise UserError(f"env.game: {making.game}: its lanes differ: {first_line(error)}") from error
        self._no_reward, self._no = np.zeros(len(lanes)), np.zeros(len(lanes), bool)

    def reset(self, seeds: np.ndarray) -> Answers:
        """Begins an episode in each lane, with ``seeds`` (``int[N]``)."""
        try:
            observation, _ = self._vector.reset(seed=seeds.tolist())
        except (ValueError, TypeError) as error:
            raise self._fault(error) from error
        return Answers(observation, self._no_reward, self._no, self._no)

    def step(self, actions: np.ndarray) -> Answers:
        """Plays one agent step in each lane, with the environments' own actions (``i64[N]``)."""
        try:
            return Answers(*self._vector.step(actions)[:4])
        except (ValueError, TypeError) as error:
            raise self._fault(error) from error

    @property
    def agent_steps_per_second(self) -> float | None:
        """How many agent steps are a second for somebody who watches; None where the environment does not say."""
        rate = self._vector.metadata.get("render_fps")
        return rate if isinstance(rate, int | float) and rate > 0 else None

    def picture(self) -> np.ndarray | None:
        """Picture of the first lane, ``uint8[H, W, 3]``; None where the environment draws none."""
        lane = self._vector.envs[0]
        if lane.render_mode != PICTURES:
            return None
        try:
            picture = np.asarray(lane.render())
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise UserError(f"{lane.name}: no picture can be drawn: {first_line(error)}") from error
        except (Exception, SystemExit) as error:
            raise lane.fault("render", error) from error
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            found = (
                "nothing" if picture.dtype == object and not picture.shape else f"{picture.dtype}{list(picture.shape)}"
            )
            raise FaultError(f"{lane.name}: {lane.place('render')} must return {RETURNS['render']}, not {found}")
        return picture

    def close(self) -> None:
        """Closes the environments. An environment that fails to close is past caring."""
        with suppress(Exception):
            self._vector.close()

    def _fault(self, error: Exception) -> FaultError:
        """Finds the lane whose observation does not fit the others, after Gymnasium failed to put them together."""
        space, kind = self._vector.single_observation_space, type(self._vector.envs[0].unwrapped)
        for lane in self._vector.envs:
            newest = np.asarray(lane.newest)
            if newest.shape != space.shape or not np.can_cast(newest.dtype, space.dtype, "same_kind"):
                return FaultError(
                    f"{lane.name}: its observation is {newest.dtype}{list(newest.shape)}, but its observation_space "
                    f"says {space.dtype}{list(space.shape)} ({place_of(kind)}{kind.__name__})"
                )
        return FaultError(f"{self._vector.envs[0].name}: {what_happened(error)}")


def _named_lane(making: Making, lane: int, *, draws: bool) -> Lane:
    return Lane(make_lane(making, draws=draws)[0], f"{making.game}, lane {lane}")


class Memory:
    """Memory that the trainer and its processes of lanes share. It has no name, so nothing remains of it.

    Args:
      file: descriptor of the memory's file.
      num_lanes: N.
      shape: shape of one observation.
      dtype: dtype of an observation.
    """

    def __init__(self, file: int, num_lanes: int, shape: Sequence[int], dtype: np.dtype[Any]):
        memory = mmap.mmap(file, self.num_bytes(num_lanes, shape, dtype))
        observations = len(memory) - 18 * num_lanes
        part = partial(np.frombuffer, memory)
        self.numbers = part(np.int64, num_lanes, 0)
        """Seeds or actions, ``i64[N]``, from the trainer to the lanes."""
        self.answers = Answers(
            part(dtype, observations // dtype.itemsize, 16 * num_lanes).reshape(num_lanes, *shape),
            part(np.float64, num_lanes, 8 * num_lanes),
            part(np.bool_, num_lanes, 16 * num_lanes + observations),
            part(np.bool_, num_lanes, 17 * num_lanes + observations),
        )

    @staticmethod
    def num_bytes(num_lanes: int, shape: Sequence[int], dtype: np.dtype[Any]) -> int:
        """Size of the memory: for each lane a number, a reward, an observation and two flags."""
        return num_lanes * (18 + math.prod(shape) * dtype.itemsize)


def receive(connection: socket.socket, num_bytes: int) -> bytes:
    """Receives exactly ``num_bytes``, or fewer where the other side has ended."""
    parts = b""
    with suppress(ConnectionError):
        while len(parts) < num_bytes and (part := connection.recv(num_bytes - len(parts))):
            parts += part
    return parts


def with_length(text: str) -> bytes:
    """A text as bytes, behind its length."""
    words = text.encode("utf-8", "replace")
    return len(words).to_bytes(LENGTH_BYTES, "little") + words


def receive_text(connection: socket.socket) -> str:
    """Receives what ``with_length`` made."""
    length = int.from_bytes(receive(connection, LENGTH_BYTES), "little")
    return receive(connection, length).decode("utf-8", "replace")


def serve(connection: socket.socket, memory_file: int) -> None:
    """Plays a group of lanes for the trainer until the trainer closes the connection."""
    about = json.loads(receive_text(connection))
    first, end = about["lanes"]
    try:
        import_all(about["imports"])
        group = LaneGroup(Making(*about["making"]), range(first, end))
        memory = Memory(memory_file, about["num_lanes"], about["shape"], np.dtype(about["dtype"]))
        while command := receive(connection, 1):
            numbers = memory.numbers[first:end]
            answers = group.reset(numbers) if command == RESET else group.step(numbers)
            for mine, theirs in zip(memory.answers, answers, strict=True):
                mine[first:end] = theirs
            connection.sendall(DONE)
    except (UserError, FaultError) as error:
        connection.sendall(FAILED + with_length(str(error)))


def main(arguments: Sequence[str]) -> None:
    """Runs a process of lanes: the descriptors of the connection and of the memory, and the trainer's process id."""
    connection, memory_file, trainer = map(int, arguments)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # the trainer gets them too, and needs its lanes to save
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(trainer, signal.SIGKILL)
    with suppress(ConnectionError):
        serve(socket.socket(fileno=connection), memory_file)


if __name__ == "__main__":
    main(sys.argv[1:])
