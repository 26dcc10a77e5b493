"""A training in a folder of its own: what is left to do, and how far it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from jaxpg.config import Config, dump, flatten, load_imported
from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import from_json, open_regular, read_json
from jaxpg.core.validation import is_number
from jaxpg.machine.durable_files import write_text
from jaxpg.suite.works import jaxpg_command

ENDS = (
    "target return reached",
    "all games played",
    "budget of agent steps used",
    "budget of games used",
    "budget of seconds used",
)
"""How a training ends by itself. Any other end, such as a signal or a failed emulator, is an interruption."""
BUDGETS = ("run.budget_agent_steps", "run.budget_seconds")
MAY_DIFFER = {"run.dir", "run.schedule_agent_steps", *BUDGETS}
"""Settings in which a run may differ from what is asked. A larger budget lets a finished run go on; its schedules stay
as they were when the run was created."""

LOCK = "lock"
"""The lock file of a run folder, ``jaxpg.run.lock.LOCK``."""
SECONDS_TO_WAIT = 30.0
"""How long a training waits for an earlier one in its folder that is still saving because its parent was killed."""


class Point(NamedTuple):
    """One iteration of a training."""

    agent_steps: float
    wall_seconds: float
    episodes: float
    return_mean_100: float | None


@dataclass(frozen=True)
class Training:
    """A training in a folder. ``FOLDER.yaml`` beside the folder is its recipe, and ``FOLDER.log`` has its output.

    Args:
      folder: the run folder.
      config: the configuration. ``run.dir`` does not count. The training may import what it names, which this process
        has imported.
    """

    folder: Path
    config: Config

    @property
    def recipe(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def imports(self) -> list[str]:
        """The flags with which a command imports what the configuration names."""
        return ["--imports", *self.config.imports] if self.config.imports else []

    def check(self) -> None:
        """Checks that a run which the folder holds already is this training.

        Raises:
          UserError: the run has other settings, or its configuration cannot be read.
        """
        if not self._has_begun():
            return
        there, asked = flatten(load_imported(self.folder / "config.yaml")), flatten(self.config)
        for key in asked:
            if key not in MAY_DIFFER and there.get(key) != asked[key]:
                raise UserError(
                    f"{self.folder}: a run with other settings: its {key} is {there.get(key)!r}, not {asked[key]!r}; "
                    "remove it or choose another folder"
                )

    def command(self) -> list[str] | None:
        """The command that begins the training or goes on with it, or None if the training is over."""
        if not self._has_begun():
            write_text(self.recipe, dump(self.config))
            return jaxpg_command("train", str(self.recipe), "--run.dir", str(self.folder), *self.imports)
        self._wait_for_trainer()
        if self.is_over():
            return None
        run = self.config.run
        budgets = [
            *("--run.budget-agent-steps", str(run.budget_agent_steps)),
            *("--run.budget-seconds", str(run.budget_seconds)),
        ]
        return jaxpg_command("train", "--resume", str(self.folder), *budgets, *self.imports)

    def is_over(self) -> bool:
        """Whether the training ended by itself and has used the budget that is asked for."""
        summary, run = self.summary(), self.config.run
        if summary.get("ended") not in ENDS:
            return False
        if summary["ended"] == "budget of agent steps used":
            return _is_used(summary.get("agent_steps"), run.budget_agent_steps)
        if summary["ended"] == "budget of seconds used":
            return run.budget_seconds > 0 and _is_used(summary.get("wall_seconds"), run.budget_seconds)
        return True

    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``; empty while the training is not over."""
        try:
            summary = read_json(self.folder / "summary.json")
            return summary if isinstance(summary, dict) else {}
        except (OSError, ValueError):
            return {}

    def points(self) -> list[Point]:
        """The iterations so far, oldest first. Lines that cannot be read are left out."""
        try:
            with open_regular(self.folder / "metrics.jsonl") as file:
                return [point for line in file if (point := _point(line))]
        except OSError:
            return []

    def _wait_for_trainer(self) -> None:
        lock = FileLock(self.folder / LOCK, timeout=SECONDS_TO_WAIT)
        try:
            lock.acquire()
            lock.release()
        except (Timeout, OSError):
            return  # the training itself says who holds the lock, or what is wrong with the folder

    def _has_begun(self) -> bool:
        return (self.folder / "config.yaml").is_file()


def return_at(points: Sequence[Point], agent_steps: float) -> float | None:
    """The mean return of the last 100 games after so many agent steps.

    It is that of the last iteration that ended by then. None where no game had ended.
    """
    found = None
    for point in points:
        if point.agent_steps > agent_steps:
            break
        found = point.return_mean_100
    return found


def _point(line: bytes) -> Point | None:
    try:
        record = from_json(line)
        mean = record["return_mean_100"]
        steps, seconds, episodes = (float(record[name]) for name in ("agent_steps", "wall_seconds", "episodes"))
        point = Point(steps, seconds, episodes, None if mean is None else float(mean))
        return point if all(x is None or is_number(x) for x in point) else None
    except (ValueError, KeyError, TypeError):
        return None


def _is_used(used: object, budget: float) -> bool:
    """Whether the number in a summary, which may be anything, is at least the budget."""
    return isinstance(used, int | float) and used >= budget
