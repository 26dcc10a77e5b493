"""Weights & Biases: project, entity, mode and place come from its own variables, such as WANDB_PROJECT and WANDB_DIR.

A run is resumed by its id, and W&B says at which step it stands. Offline nobody can say that, so the newest folder
``wandb/offline-run-*`` always has the whole run, and ``wandb sync`` of it replaces what the server has of the run.
"""

import glob
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from jaxpg.run.trackers.tracked_run import Iteration

SECONDS_TO_CONNECT = 30


class WandbRun:
    """The run as W&B shows it. The step of a row is agent steps."""

    def __init__(self, folder: Path, run_id: str | None):
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxpg"),
            name=os.environ.get("WANDB_NAME", folder.resolve().name),
            id=run_id,
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, init_timeout=SECONDS_TO_CONNECT),
        )
        self.run_id = self._run.id
        self.is_new = not self._run.resumed
        self.last_agent_steps = self._run.starting_step - 1

    def set_config(self, config: Mapping[str, Any]) -> None:
        self._run.config.update(dict(config), allow_val_change=True)

    def log(self, iterations: Sequence[Iteration]) -> None:
        for one in iterations:
            row: dict[str, Any] = {**one.metrics}
            if one.returns:
                row["episode/return"] = wandb.Histogram(one.returns)
                row["episode/length_agent_steps"] = wandb.Histogram(one.lengths_agent_steps)
            self._run.log(row, step=one.agent_steps)
            self.last_agent_steps = one.agent_steps

    def add_evaluation(self, scores: Mapping[str, float], agent_steps: int) -> None:
        self._run.summary.update({**scores, "evaluation/agent_steps": agent_steps})

    def add_video(self, path: Path, agent_steps: int) -> None:
        caption = f"checkpoint {path.stem}, {agent_steps:,} agent steps"
        self._log_later({"video": wandb.Video(str(path), caption=caption, format="mp4")})

    def add_page(self, path: Path, agent_steps: int) -> None:
        self._log_later({"report": wandb.Html(path.read_text(encoding="utf-8"))})

    def finish(self, ended: str | None) -> None:
        self._run.finish(exit_code=0 if ended else 1)
        if self._run.offline:
            newest = Path(self._run.dir).parent
            for older in newest.parent.glob(f"offline-run-*-{glob.escape(self.run_id)}"):
                if older != newest:
                    shutil.rmtree(older)

    def _log_later(self, media: dict[str, Any]) -> None:
        """Logs media in the step after the newest iteration, because W&B takes no more for a step that is over."""
        self._run.log(media, step=max(self.last_agent_steps, 0) + 1)


def open_run(folder: Path, run_id: str | None) -> WandbRun:
    """Begins a tracked run, or continues the one called ``run_id``."""
    return WandbRun(folder, run_id)
