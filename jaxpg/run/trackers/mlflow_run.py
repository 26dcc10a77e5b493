"""MLflow: the server and the experiment come from MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.

The newest value of the metric ``agent_steps`` says how far the tracked run is. The time of a value is the time of
training, so that a value that is sent twice, because the answer to the first was lost, is one value to MLflow.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default takes minutes to notice a lost server
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from mlflow.entities import Metric, Param

from jaxpg.run.trackers.tracked_run import Iteration

MAX_METRICS, MAX_PARAMS, MAX_LETTERS = 1000, 100, 6000
"""What MLflow takes in one call, and the longest value of a parameter."""


class MlflowRun:
    """The run as MLflow shows it. The step of a value is agent steps."""

    def __init__(self, folder: Path, run_id: str | None):
        self._folder = folder
        self._client = mlflow.MlflowClient()
        self.is_new = run_id is None
        if run_id is None:
            experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "jaxpg"))
            run = self._client.create_run(experiment.experiment_id, run_name=folder.resolve().name)
        else:
            self._client.update_run(run_id, status="RUNNING")
            run = self._client.get_run(run_id)
        self.run_id = run.info.run_id
        self._started_ms = run.info.start_time
        self.last_agent_steps = int(run.data.metrics.get("agent_steps", -1))

    def set_config(self, config: Mapping[str, Any]) -> None:
        values = {key: str(value)[:MAX_LETTERS] for key, value in config.items()}
        before = self._client.get_run(self.run_id).data.params
        params = [Param(key, value) for key, value in values.items() if key not in before]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self.run_id, params=params[start : start + MAX_PARAMS])
        for key, value in values.items():  # a parameter cannot change, a tag can
            if before.get(key, value) != value:
                self._client.set_tag(self.run_id, f"changed.{key}", value)
        self._client.log_artifact(self.run_id, str(self._folder / "config.yaml"))

    def log(self, iterations: Sequence[Iteration]) -> None:
        batch: list[Metric] = []
        for one in iterations:
            values = dict(one.metrics)
            if one.returns:
                values |= {"episode/return_min": min(one.returns), "episode/return_max": max(one.returns)}
            at = self._started_ms + round(1000 * (one.record["wall_seconds"] or 0))
            metrics = [Metric(name, value, at, one.agent_steps) for name, value in values.items()]
            if len(batch) + len(metrics) > MAX_METRICS:
                self._client.log_batch(self.run_id, metrics=batch)
                batch = []
            batch += metrics
        self._client.log_batch(self.run_id, metrics=batch)
        self.last_agent_steps = iterations[-1].agent_steps

    def add_evaluation(self, scores: Mapping[str, float], agent_steps: int) -> None:
        metrics = [Metric(name, value, self._started_ms, agent_steps) for name, value in scores.items()]
        self._client.log_batch(self.run_id, metrics=metrics)
        self._client.log_artifact(self.run_id, str(self._folder / "evaluation.json"))

    def add_video(self, path: Path, agent_steps: int) -> None:
        self._client.log_artifact(self.run_id, str(path), "videos")

    def add_page(self, path: Path, agent_steps: int) -> None:
        self._client.log_text(self.run_id, path.read_text(encoding="utf-8"), "report.html")
        self._client.log_artifact(self.run_id, str(self._folder / "episodes.csv"))

    def finish(self, ended: str | None) -> None:
        if ended:
            self._client.set_tag(self.run_id, "ended", ended)
        self._client.set_terminated(self.run_id, "FINISHED" if ended else "KILLED")


def open_run(folder: Path, run_id: str | None) -> MlflowRun:
    """Begins a tracked run, or continues the one called ``run_id``."""
    return MlflowRun(folder, run_id)
