"""``suite.json``: the results of a suite of runs, one row for each run."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_regular
from jaxpg.core.validation import Count, Measured, Name
from jaxpg.machine.durable_files import write_text

SUITE_FILE = "suite.json"


def _without_way_out(name: str) -> str:
    if "/" in name or name in ("", ".", ".."):
        raise ValueError("a run folder lies beside the file")
    return name


FolderName = Annotated[Name, AfterValidator(_without_way_out)]
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SuiteScore:
    """One evaluation of a run."""

    mean: Measured
    """Mean return of the episodes."""
    human_normalized: Measured | None
    """The mean on a scale from 0 for a random player to 1 for a human; None where they cannot be compared."""
    episodes: Count
    """How many episodes were played."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SuiteRow:
    """One run of the suite."""

    recipe: Name
    """Name of the recipe."""
    game: Name
    """The game, ``env.game``."""
    seed: Count
    """The seed, ``run.seed``."""
    folder: FolderName
    """Name of the run folder, beside the file."""
    failure: str | None
    """Why the run or its evaluation failed; None where it did not."""
    ended: str | None
    """How the training ended; None while it is not over."""
    agent_steps: Count
    """Agent steps of the training."""
    seconds: Measured
    """Seconds of training."""
    scores: dict[str, SuiteScore]
    """The evaluation of each way to choose actions, ``sampled`` and ``greedy``; those that are missing are left out."""
    curve: list[tuple[Measured, Measured]]
    """Points of the learning curve: agent steps, and the mean return of the last 100 games."""

    @property
    def group(self) -> tuple[str, str]:
        """Recipe and game, which the seeds of a group share."""
        return self.recipe, self.game


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SuiteResults:
    """All rows of a suite, and how they were evaluated."""

    episodes: Annotated[Count, Field(ge=1)]
    """Whole games of each evaluation."""
    checkpoint: str
    """Which checkpoint was evaluated, ``latest`` or ``best``."""
    rows: list[SuiteRow]
    """One row for each run."""


_RESULTS = TypeAdapter(SuiteResults)


def read_suite(path: Path) -> SuiteResults:
    """Reads the file. Raises UserError where it cannot be read."""
    try:
        return _RESULTS.validate_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the results of a suite") from error


def write_suite(path: Path, results: SuiteResults) -> None:
    """Writes the file atomically."""
    write_text(path, _RESULTS.dump_json(results, indent=1).decode() + "\n")
