"""``evaluation.json`` of a run folder: what its policies scored, a list with the oldest first."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter
from pydantic.dataclasses import dataclass

from jaxpg.core.errors import UserError
from jaxpg.machine.durable_files import write_json
from jaxpg.scores.intervals import Summary, summarize


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Evaluation:
    """Whole games of one policy in one protocol."""

    checkpoint: int
    """The iteration."""
    actions: str
    """``greedy`` or ``sampled``."""
    seed: int
    env: dict[str, Any]
    """The settings of the emulators."""
    episodes: int
    distinct: int | None = None
    """Different games among them; None in files of older versions, which did not look."""
    cut: int | None = None
    """Games that the time limit ended."""
    mean: FiniteFloat
    mean_low: FiniteFloat | None
    """Of the 95 % interval of the mean; None where there are too few different games."""
    mean_high: FiniteFloat | None
    median: FiniteFloat
    iqm: FiniteFloat
    """Mean of the middle half."""
    min: FiniteFloat
    max: FiniteFloat
    human_normalized: FiniteFloat | None
    seconds: FiniteFloat
    agent_steps: int
    returns: Annotated[list[FiniteFloat], Field(min_length=1)]
    lengths_agent_steps: list[int]

    @property
    def protocol(self) -> tuple[Any, ...]:
        """A newer evaluation with the same one replaces this one; one of fewer games does not."""
        return self.checkpoint, self.actions, self.seed, self.episodes, json.dumps(self.env, sort_keys=True)


_LIST = TypeAdapter(list[Evaluation])


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations in the file; none where it is missing. Intervals of older versions are computed anew.

    Raises:
      UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return [_of_today(one) if one.distinct is None else one for one in _LIST.validate_json(path.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged; move it away to write a new one") from error


def add_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Adds one, in place of an older one of the same protocol, to what others have added meanwhile.

    Raises:
      UserError: the file is damaged or cannot be written.
    """
    with only_writer(path):
        others = [other for other in read_evaluations(path) if other.protocol != evaluation.protocol]
        try:
            write_json(path, [dataclasses.asdict(one) for one in (*others, evaluation)])
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Waits until no other process writes the file, which takes each a moment, and keeps them from it.

    Raises:
      UserError: nothing can be written there.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def _of_today(old: Evaluation) -> Evaluation:
    """An evaluation of an older version with today's statistics; how many of its games differ remains unknown."""
    limit = old.env.get("max_episode_agent_steps", np.inf)
    cut = int(np.sum(np.array(old.lengths_agent_steps) >= limit))
    new: Summary = summarize(np.array(old.returns), old.env, cut=cut)
    return dataclasses.replace(
        old, cut=cut, mean_low=new.mean_low, mean_high=new.mean_high, human_normalized=new.human_normalized
    )
