"""What a checkpoint stores besides its arrays: how far the run is, and the episodes that are not over yet."""

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
from jaxpg.run.run_progress import RunProgress

WITHOUT_INFLUENCE = ("num_pools", "num_threads", "timeout_seconds", "workers")
"""Emulator settings that do not change what happens in an episode."""


@dataclass(frozen=True, kw_only=True)
class UnfinishedEpisodes:
    """The actions of a segment so far, which bring the emulators back into the middle of their unfinished episodes.

    Emulators that start from the segment's seeds and play these actions again reach the same state.
    """

    __pydantic_config__ = STRICT

    depend_on: str
    """What the episodes depend on besides the actions, as ``episodes_depend_on`` returns it."""
    agent_steps: PositiveInt
    """Agent steps of each lane since the segment began (K)."""
    lanes: PositiveInt
    actions: str
    """The actions ``u8[K, N]``, compressed with zlib and written in base 85."""
    checksum: int | None = None
    """Checksum of what all lanes in which somebody plays were seen to do; None in checkpoints of older versions."""
    playing: list[Annotated[int, Field(ge=-1, lt=2**31)]] | None = None
    """``QueueSnapshot.playing`` of the candidate queue. None where the learner has no queue, as for the next two."""
    waiting: list[list[NonNegativeInt]] | None = None
    """``QueueSnapshot.waiting`` of the candidate queue."""
    is_one: bool | None = None
    """``QueueSnapshot.is_one`` of the candidate queue."""

    @classmethod
    def of(
        cls, depend_on: str, actions: np.ndarray, queue: QueueSnapshot | None, checksum: int | None = None
    ) -> "UnfinishedEpisodes":
        """Packs ``actions``, ``u8[K, N]``, the candidate queue where there is one, and the checksum."""
        agent_steps, lanes = actions.shape
        text = base64.b85encode(zlib.compress(actions.tobytes(), 1)).decode("ascii")
        return cls(
            depend_on=depend_on,
            agent_steps=agent_steps,
            lanes=lanes,
            actions=text,
            checksum=checksum,
            **(queue_to_json(queue) if queue else {}),
        )

    @property
    def queue(self) -> QueueSnapshot | None:
        """The candidate queue; None where the learner has none."""
        if self.playing is None or self.waiting is None or self.is_one is None:
            return None
        return queue_from_json({"playing": self.playing, "waiting": self.waiting, "is_one": self.is_one})

    def unpacked(self) -> np.ndarray:
        """Decompresses the actions, ``u8[K, N]``.

        The result never takes more memory than ``agent_steps`` and ``lanes`` announce, so a hostile file cannot fill
        the memory.

        Raises:
          ValueError: the actions are damaged.
        """
        try:
            packed = base64.b85decode(self.actions)
            plain = zlib.decompressobj().decompress(packed, self.agent_steps * self.lanes + 1)
        except (binascii.Error, ValueError, zlib.error) as error:
            raise ValueError(f"the actions of its games cannot be read: {error}") from error
        return np.frombuffer(plain, np.uint8).reshape(self.agent_steps, self.lanes)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Everything a checkpoint stores besides arrays."""

    __pydantic_config__ = STRICT

    progress: RunProgress
    games: UnfinishedEpisodes | None
    """The episodes that are not over yet; None between two segments."""
    task: Task | None = None
    """What each input and each action of the policy means; None in checkpoints of older versions."""
    lanes_depend_on: str | None = None
    """What the saved lanes of environments in JAX depend on, as ``episodes_depend_on`` returns it; None where no lanes
    are saved."""

    def to_json(self) -> bytes:
        """Writes the metadata as JSON."""
        games, task = (dataclasses.asdict(x) if x else None for x in (self.games, self.task))
        content: dict[str, Any] = {"progress": self.progress.to_json(), "games": games, "task": task}
        content |= {"lanes_depend_on": self.lanes_depend_on} if self.lanes_depend_on else {}
        return json.dumps(content, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Metadata":
        """Reads what ``to_json`` wrote.

        Raises:
          ValueError: the text is damaged; the message is one line and names the first damaged key.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


_ADAPTER = TypeAdapter(Metadata)


def queue_to_json(queue: QueueSnapshot) -> dict[str, Any]:
    """Converts the state of a queue into lists and numbers that JSON can hold."""
    return {
        "playing": queue.playing.tolist(),
        "waiting": [games.tolist() for games in queue.waiting],
        "is_one": bool(queue.is_one),
    }


def queue_from_json(data: dict[str, Any]) -> QueueSnapshot:
    """Converts what ``queue_to_json`` returned into the same state."""
    waiting = tuple(np.array(games, np.int64) for games in data["waiting"])
    return QueueSnapshot(np.array(data["playing"], np.int64), waiting, data["is_one"])


def episodes_depend_on(env: EnvConfig, seed: int | list[int], lane_groups: int) -> str:
    """Describes everything that episodes depend on besides the actions and the number of the segment.

    Two runs with the same description can continue each other's episodes.

    Args:
      env: the configuration of the emulators.
      seed: the seed of the run; in a population those of all members.
      lane_groups: how many groups the candidates are divided into; 0 where the learner has no candidates.
    """
    settings = {name: x for name, x in dataclasses.asdict(env).items() if name not in WITHOUT_INFLUENCE}
    if not env.options:  # checkpoints of older versions do not know the setting
        del settings["options"]
    return json.dumps({"seed": seed, "lane_groups": lane_groups, **settings}, sort_keys=True)
