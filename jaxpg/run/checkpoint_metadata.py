"""What a checkpoint says besides its arrays: how far the run is, and the games that it was in the middle of."""

import base64
import binascii
import dataclasses
import json
import zlib
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from jaxpg.core.validation import STRICT, NonNegativeInt, PositiveInt
from jaxpg.envs.config import EnvConfig
from jaxpg.kernel.players import QueueSnapshot
from jaxpg.kernel.task import Task
from jaxpg.run.counters import Progress

WITHOUT_INFLUENCE = ("num_pools", "num_threads", "timeout_seconds")
"""Settings of the emulators that games do not depend on."""


@dataclass(frozen=True, kw_only=True)
class Games:
    """Unfinished games: played again from the segment's seeds, the actions bring the emulators to the same state."""

    __pydantic_config__ = STRICT

    depend_on: str
    """What else the games depend on, as ``games_depend_on`` says it."""
    agent_steps: PositiveInt
    """Of each lane since the segment began (K)."""
    lanes: PositiveInt
    actions: str
    """``u8[K, N]``, compressed, in base 85."""
    playing: list[Annotated[int, Field(ge=-1, lt=2**31)]] | None = None
    """Of the queue where there is one, as in QueueSnapshot."""
    waiting: list[list[NonNegativeInt]] | None = None
    is_one: bool | None = None

    @classmethod
    def of(cls, depend_on: str, actions: np.ndarray, queue: QueueSnapshot | None) -> "Games":
        agent_steps, lanes = actions.shape
        text = base64.b85encode(zlib.compress(actions.tobytes(), 1)).decode("ascii")
        return cls(
            depend_on=depend_on,
            agent_steps=agent_steps,
            lanes=lanes,
            actions=text,
            **(queue_to_json(queue) if queue else {}),
        )

    @property
    def queue(self) -> QueueSnapshot | None:
        if self.playing is None or self.waiting is None or self.is_one is None:
            return None
        return queue_from_json({"playing": self.playing, "waiting": self.waiting, "is_one": self.is_one})

    def unpacked(self) -> np.ndarray:
        """The actions, ``u8[K, N]``; ValueError where they are damaged. Never makes more than is promised."""
        try:
            packed = base64.b85decode(self.actions)
            plain = zlib.decompressobj().decompress(packed, self.agent_steps * self.lanes + 1)
        except (binascii.Error, ValueError, zlib.error) as error:
            raise ValueError(f"the actions of its games cannot be read: {error}") from error
        return np.frombuffer(plain, np.uint8).reshape(self.agent_steps, self.lanes)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """All of it."""

    __pydantic_config__ = STRICT

    progress: Progress
    games: Games | None
    """None between two segments."""
    task: Task | None = None
    """What the positions of inputs and actions mean; None in checkpoints of older versions."""

    def to_json(self) -> bytes:
        games, task = (dataclasses.asdict(x) if x else None for x in (self.games, self.task))
        content = {"progress": self.progress.to_json(), "games": games, "task": task}
        return json.dumps(content, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Metadata":
        """Reads it back; ValueError with one line where it is damaged."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


_ADAPTER = TypeAdapter(Metadata)


def queue_to_json(queue: QueueSnapshot) -> dict[str, Any]:
    """Plain lists and numbers."""
    return {
        "playing": queue.playing.tolist(),
        "waiting": [games.tolist() for games in queue.waiting],
        "is_one": bool(queue.is_one),
    }


def queue_from_json(data: dict[str, Any]) -> QueueSnapshot:
    """What ``queue_to_json`` was made of."""
    waiting = tuple(np.array(games, np.int64) for games in data["waiting"])
    return QueueSnapshot(np.array(data["playing"], np.int64), waiting, data["is_one"])


def games_depend_on(env: EnvConfig, seed: int, lane_groups: int) -> str:
    """All that games depend on besides actions and the number of the segment.

    Args:
      env: the emulators.
      seed: of the run.
      lane_groups: into how many groups the candidates are divided; 0 where there are none.
    """
    settings = {name: x for name, x in dataclasses.asdict(env).items() if name not in WITHOUT_INFLUENCE}
    return json.dumps({"seed": seed, "lane_groups": lane_groups, **settings}, sort_keys=True)
