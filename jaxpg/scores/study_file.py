"""``study.json``: the trials of a search for settings."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import read_regular
from jaxpg.core.validation import Count, Measured
from jaxpg.machine.durable_files import write_text

STUDY_FILE = "study.json"
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyTrial:
    """One choice of settings, and what came of it."""

    number: Count
    """Number of the trial."""
    state: str
    """``complete``, ``pruned``, ``failed`` or ``running``."""
    settings: dict[str, Any]
    """The value of each setting that varies."""
    value: Measured | None
    """The larger the better; None while the trial runs, and where it was pruned or failed."""
    reason: str | None
    """Why the trial was pruned or failed; None where it did neither."""
    scores: dict[str, Measured]
    """Score of each seed that has one."""
    curve: list[tuple[Measured, Measured]]
    """Agent steps, and the return over all seeds by then, by which trials are pruned."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyResults:
    """The trials of a study, oldest first."""

    about: str
    """What the value is, in words."""
    seeds: list[Count]
    """The seeds of each trial."""
    settings: list[str]
    """The settings that vary."""
    logarithmic: list[str]
    """Those whose logarithm is drawn."""
    best: Count | None
    """Number of the best trial; None where none is complete."""
    trials: list[StudyTrial]
    """One entry for each trial."""


_RESULTS = TypeAdapter(StudyResults)


def read_study(path: Path) -> StudyResults:
    """Reads the file. Raises UserError where it cannot be read."""
    try:
        return _RESULTS.validate_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the trials of a study") from error


def write_study(path: Path, results: StudyResults) -> None:
    """Writes the file atomically."""
    write_text(path, _RESULTS.dump_json(results, indent=1).decode() + "\n")
