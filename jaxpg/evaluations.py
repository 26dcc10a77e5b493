"""``evaluation.json`` of a run folder: what its policies scored, a list with the oldest first."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, FiniteFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from jaxpg.durable import write_json
from jaxpg.errors import UserError


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
    mean: FiniteFloat
    mean_low: FiniteFloat
    """Of the 95 % bootstrap interval of the mean."""
    mean_high: FiniteFloat
    median: FiniteFloat
    iqm: FiniteFloat
    """Mean of the middle half."""
    min: FiniteFloat
    max: FiniteFloat
    human_normalized: FiniteFloat | None
    seconds: FiniteFloat
    agent_steps: int
    returns: list[FiniteFloat]
    lengths_agent_steps: list[int]

    @property
    def protocol(self) -> tuple[Any, ...]:
        """What it has in common with another one that it replaces."""
        return self.checkpoint, self.actions, self.seed, json.dumps(self.env, sort_keys=True)


_LIST = TypeAdapter(list[Evaluation])


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations in the file; none where it is missing.

    Raises:
      UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        return _LIST.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: damaged; move it away to write a new one") from error


def add_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Adds one, in place of an older one of the same checkpoint, protocol and seed.

    Raises:
      UserError: the file is damaged or cannot be written.
    """
    others = [other for other in read_evaluations(path) if other.protocol != evaluation.protocol]
    try:
        write_json(path, [dataclasses.asdict(one) for one in (*others, evaluation)])
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
