"""trackio: a database on this machine (TRACKIO_DIR), a Space (TRACKIO_SPACE_ID) or a server (TRACKIO_SERVER_URL).

trackio finds a run by its name in the project (TRACKIO_PROJECT), so the name of the run folder gets a random end.
"""

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trackio
from trackio.sqlite_storage import SQLiteStorage

from jaxpg.run.trackers.tracked_run import Iteration

BINS = 16


class TrackioRun:
    """The run as trackio shows it. The step of a row is agent steps."""

    def __init__(self, folder: Path, run_id: str | None):
        plain = re.sub(r"[^\w-]", "_", folder.resolve().name)[:100]
        self.run_id = run_id or f"{plain}-{secrets.token_hex(3)}"
        self._run = trackio.init(
            os.environ.get("TRACKIO_PROJECT", "jaxpg"),
            name=self.run_id,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        self.last_agent_steps = max(self._run._next_step - 1, self._kept())  # has no public name
        self.is_new = self.last_agent_steps < 0

    def set_config(self, config: Mapping[str, Any]) -> None:
        self._run.config.update(config)
        self._run._config_logged = False  # has no public name; the next row brings the settings along

    def log(self, iterations: Sequence[Iteration]) -> None:
        for one in iterations:
            row: dict[str, Any] = {**one.metrics}
            if one.returns:
                row["episode/return"] = trackio.Histogram(one.returns, num_bins=BINS)
                row["episode/length_agent_steps"] = trackio.Histogram(one.lengths_agent_steps, num_bins=BINS)
            self._run.log(row, step=one.agent_steps)
            self.last_agent_steps = one.agent_steps

    def add_evaluation(self, scores: Mapping[str, float], agent_steps: int) -> None:
        self._run.log(dict(scores), step=agent_steps)

    def add_video(self, path: Path, agent_steps: int) -> None:
        caption = f"checkpoint {path.stem}, {agent_steps:,} agent steps"
        self._run.log({"video": trackio.Video(str(path), caption=caption)}, step=agent_steps)

    def add_page(self, path: Path, agent_steps: int) -> None:
        self._run.log({"report": trackio.Html(path)}, step=agent_steps)

    def finish(self, ended: str | None) -> None:
        self._run.finish()
        if not self._run._is_local and SQLiteStorage.has_pending_data(self._run.project):
            raise OSError("the server did not take everything; trackio keeps it here, and sends it the next time")
        if self._run._is_local and self._kept() < self.last_agent_steps:
            raise OSError("the database did not take everything")

    def _kept(self) -> int:
        """The newest step in the database on this machine, which also has what a server did not take yet."""
        step = SQLiteStorage.get_max_step_for_run(self._run.project, self._run.name, run_id=self._run.id)
        return -1 if step is None else step


def open_run(folder: Path, run_id: str | None) -> TrackioRun:
    """Begins a tracked run, or continues the one called ``run_id``."""
    return TrackioRun(folder, run_id)
