"""Reads and writes ``evaluation.json`` in a run folder, the list of all evaluations of the run, oldest first."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_regular
from jaxpg.core.validation import Count, Measured, Name
from jaxpg.machine.durable_files import write_json
from jaxpg.scores.intervals import Summary, summarize


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Evaluation:
    """The scores of one policy over whole episodes, and the protocol in which they were played."""

    checkpoint: Count
    """Iteration of the checkpoint."""
    member: Count | None = None
    """Whose policy it is in a population; None where there is none."""
    actions: Name
    """How actions were chosen: ``greedy``, ``sampled``, or ``random``, which takes all alike."""
    seed: Count
    """The seed that was given to the evaluation."""
    env: dict[str, Any]
    """The settings of the emulators."""
    episodes: Count
    """How many episodes were played."""
    distinct: Count | None = None
    """How many different episodes are among them; None in files of older versions, which did not compare episodes."""
    cut: Count | None = None
    """How many episodes the time limit ended; None in files of older versions."""
    mean: Measured
    """Mean of the returns. All scores are unclipped."""
    mean_low: Measured | None
    """Lower end of the mean's 95 % interval; None where too few episodes are different."""
    mean_high: Measured | None
    """Upper end of the mean's 95 % interval; None where too few episodes are different."""
    median: Measured
    """Median of the returns."""
    iqm: Measured
    """Interquartile mean: the mean of the middle half of the returns."""
    min: Measured
    """The lowest return."""
    max: Measured
    """The highest return."""
    human_normalized: Measured | None
    """The mean on a scale from 0 for a random player to 1 for a human; None where they cannot be compared."""
    seconds: Measured
    """How long the evaluation took."""
    agent_steps: Count
    """Agent steps of all episodes."""
    returns: Annotated[list[Measured], Field(min_length=1)]
    """Return of each episode."""
    lengths_agent_steps: list[Count]
    """Agent steps of each episode."""

    def __repr__(self) -> str:
        """The scores without the lists of all episodes and the settings of the emulators."""
        long = ("env", "returns", "lengths_agent_steps")
        short = [field.name for field in dataclasses.fields(self) if field.name not in long]
        return f"Evaluation({', '.join(f'{name}={getattr(self, name)!r}' for name in short)})"

    @property
    def is_baseline(self) -> bool:
        """Whether these are not the policy's scores, but those of random actions."""
        return self.actions == "random"

    @property
    def protocol(self) -> tuple[Any, ...]:
        """Key of the evaluation. A newer evaluation with the same key replaces this one.

        The number of episodes is part of the key, so that an evaluation of fewer episodes does not replace this one.
        """
        return (
            self.checkpoint,
            self.member,
            self.actions,
            self.seed,
            self.episodes,
            json.dumps(self.env, sort_keys=True),
        )


_LIST = TypeAdapter(list[Evaluation])


def read_evaluations(path: Path) -> list[Evaluation]:
    """Reads the evaluations in the file; returns an empty list where the file is missing.

    Statistics that an older version wrote are computed anew.

    Raises:
      UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return [_of_today(one) if one.distinct is None else one for one in _LIST.validate_json(read_regular(path))]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged; move it away to write a new one") from error


def add_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Adds ``evaluation`` to the file and removes an older evaluation with the same protocol.

    Evaluations that other processes have added meanwhile stay.

    Raises:
      UserError: the file is damaged or cannot be written.
    """
    with only_writer(path):
        others = [other for other in read_evaluations(path) if other.protocol != evaluation.protocol]
        try:
            write_json(path, [_as_json(one) for one in (*others, evaluation)])
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    content = dataclasses.asdict(evaluation)
    return {name: value for name, value in content.items() if name != "member" or value is not None}


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Locks the file against other processes that write it; waits while one of them holds the lock.

    Each process holds the lock only for a moment.

    Raises:
      UserError: the lock cannot be created beside the file.
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
    """Computes today's statistics for an evaluation of an older version; ``distinct`` remains unknown."""
    limit = old.env.get("max_episode_agent_steps", np.inf)
    cut = int(np.sum(np.array(old.lengths_agent_steps) >= limit))
    new: Summary = summarize(np.array(old.returns), old.env, cut=cut)
    return dataclasses.replace(
        old, cut=cut, mean_low=new.mean_low, mean_high=new.mean_high, human_normalized=new.human_normalized
    )
