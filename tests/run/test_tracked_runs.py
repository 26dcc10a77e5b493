"""One real run on Pong that is killed and resumed in its middle, read back from every tracker by the tracker's own API;
and trackers that cannot be reached.
"""

import http.server
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxpg.run.trackers import tracker as tracker_module
from tests.runs import games, records

pytestmark = pytest.mark.long

PONG = [
    *("--env.game", "Pong", "--env.num-lanes", "2", "--env.max-episode-agent-steps", "20"),
    *("--reinforce.rollout-agent-steps", "32", "--policy.hidden", "8", "--run.target-return", "None"),
    *("--checkpoint.every-iterations", "20", "--run.writers", "tensorboard", "wandb", "mlflow", "trackio"),
]
PER_ITERATION = 64
Curve = list[tuple[int, float]]


def jaxpg(*words: str | Path | int, env: dict[str, str], code: int = 0) -> str:
    """Runs a command; returns what it says on stderr."""
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables that lead to W&B's offline mode, a real server of MLflow, and a database of trackio, all local."""
    place = tmp_path_factory.mktemp("trackers")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--artifacts-destination", f"{place}/artifacts"]
    url, log = f"http://127.0.0.1:{port}", place / "server.log"
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # no further processes
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, cwd=place, env=quiet) as server:
        try:
            _wait_until(lambda: _answers(f"{url}/health"))
            yield {
                **os.environ,
                "WANDB_MODE": "offline",
                "WANDB_DIR": str(place),
                "MLFLOW_TRACKING_URI": url,
                "TRACKIO_DIR": str(place / "trackio"),
            }
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def _wait_until(is_so, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def resumed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run: killed when every tracker had something of it, resumed, then evaluated and recorded."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    command = [sys.executable, "-m", "jaxpg.train", *PONG, "--run.dir", str(folder)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as training:
        _wait_until(lambda: _is_shown(folder, environment) or training.poll() is not None)
        training.send_signal(signal.SIGKILL)
        assert training.wait() == -signal.SIGKILL, "there was something left to do"
    whole = len(records(folder)) + 20
    jaxpg(*("jaxpg.train", "--resume", folder, "--run.budget-agent-steps", whole * PER_ITERATION), env=environment)
    assert len(records(folder)) == whole
    jaxpg("jaxpg.evaluate", folder, "--episodes", "2", env=environment)
    jaxpg("jaxpg.record", folder, env=environment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker_module, "SECONDS_TO_FINISH", 900.0)  # the machine of the tests may be busy
        patch.setattr(os, "environ", environment)
        tracker_module.bring_up_to_date(folder)
    return folder


def _is_shown(folder: Path, environment: dict[str, str]) -> bool:
    """Whether MLflow has a point, and the other two trackers have begun."""
    names = [folder / "trackers" / f"{name}.json" for name in ("wandb", "mlflow", "trackio")]
    return all(name.exists() for name in names) and bool(mlflow_curve(folder, environment, "iteration"))


def curve(folder: Path, name: str) -> Curve:
    return [(row["agent_steps"], row[name]) for row in records(folder) if row[name] is not None]


def mlflow_client(environment: dict[str, str]):
    import mlflow

    return mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"])


def tracked_id(folder: Path, name: str) -> str:
    return json.loads((folder / "trackers" / f"{name}.json").read_bytes())["run"]


def mlflow_curve(folder: Path, environment: dict[str, str], name: str) -> Curve:
    points = mlflow_client(environment).get_metric_history(tracked_id(folder, "mlflow"), name)
    return [(point.step, point.value) for point in points]


def wandb_records(folder: Path, environment: dict[str, str]) -> list:
    """Everything in the one offline run, read with W&B's own messages; they lie in a log in LevelDB's format."""
    from wandb.proto import wandb_internal_pb2

    [path] = Path(environment["WANDB_DIR"]).glob(f"wandb/offline-run-*-{tracked_id(folder, 'wandb')}/*.wandb")
    content, at, message, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # a header never lies across two blocks
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        message += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole message, or the last piece of it
            found.append(wandb_internal_pb2.Record.FromString(message))
            message = b""
    return found


def wandb_rows(folder: Path, environment: dict[str, str]) -> list[dict]:
    rows = [record.history for record in wandb_records(folder, environment) if record.HasField("history")]
    return [{"/".join(x.nested_key) or x.key: json.loads(x.value_json) for x in row.item} for row in rows]


def trackio_rows(folder: Path, environment: dict[str, str]) -> dict:
    """The run's settings and rows, read by trackio in a process that looks where the trackers wrote."""
    code = (
        "import json, sys, trackio; from trackio.sqlite_storage import SQLiteStorage;"
        "[run] = [run for run in trackio.Api().runs('jaxpg') if run.name == sys.argv[1]];"
        "print(json.dumps({'config': run.config, 'rows': SQLiteStorage.get_logs('jaxpg', run.name)}))"
    )
    command = [sys.executable, "-c", code, tracked_id(folder, "trackio")]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("name", ["return_mean_100", "entropy", "iteration"])
def test_every_tracker_shows_the_same_curve_of_a_run_that_was_killed(
    resumed: Path, environment: dict[str, str], name: str
) -> None:
    expected = curve(resumed, name)
    iterations = range(1, len(records(resumed)) + 1)
    assert curve(resumed, "iteration") == [(iteration * PER_ITERATION, iteration) for iteration in iterations]
    assert mlflow_curve(resumed, environment, name) == expected
    rows = wandb_rows(resumed, environment)
    assert [(row["_step"], row[name]) for row in rows if name in row] == expected
    rows = trackio_rows(resumed, environment)["rows"]
    assert [(row["step"], row[name]) for row in rows if name in row] == expected
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(resumed / "tensorboard"), size_guidance={"scalars": 0}).Reload().Scalars(name)
    assert [event.step for event in events] == [step for step, _ in expected]
    assert [event.value for event in events] == pytest.approx([value for _, value in expected])


def test_settings_episodes_evaluation_video_and_report_are_there_once(
    resumed: Path, environment: dict[str, str]
) -> None:
    [evaluation] = json.loads((resumed / "evaluation.json").read_bytes())
    played, last = len(games(resumed)), records(resumed)[-1]

    client, run_id = mlflow_client(environment), tracked_id(resumed, "mlflow")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["env.game"] == "Pong"
    assert mlflow_curve(resumed, environment, "evaluation/mean") == [(last["agent_steps"], evaluation["mean"])]
    there = {file.path for place in ("", "videos") for file in client.list_artifacts(run_id, place) if not file.is_dir}
    assert {"config.yaml", "episodes.csv", "evaluation.json", "report.html"} <= there
    assert {path for path in there if path.endswith(".mp4")} == {f"videos/{last['iteration']}.mp4"}
    assert len(client.search_runs([run.info.experiment_id], f"tags.mlflow.runName = '{resumed.name}'")) == 1

    rows = wandb_rows(resumed, environment)
    counted = sum(sum(row["episode/return/values"]) for row in rows if "episode/return/values" in row)
    assert counted == played
    assert [row["video/_type"] for row in rows if "video/_type" in row] == ["video-file"]
    assert [row["report/_type"] for row in rows if "report/_type" in row] == ["html-file"]
    updates = [u for r in wandb_records(resumed, environment) if r.HasField("summary") for u in r.summary.update]
    scores = [json.loads(u.value_json) for u in updates if (u.key or "/".join(u.nested_key)) == "evaluation/mean"]
    assert scores == [evaluation["mean"]]

    shown = trackio_rows(resumed, environment)
    assert shown["config"]["env.game"] == "Pong"
    rows = shown["rows"]
    assert sum(sum(row["episode/return"]["values"]) for row in rows if "episode/return" in row) == played
    assert [row["evaluation/mean"] for row in rows if "evaluation/mean" in row] == [evaluation["mean"]]
    assert len([row for row in rows if "video" in row]) == 1
    for name in ("wandb", "mlflow", "trackio"):
        assert set(json.loads((resumed / "trackers" / f"{name}.json").read_bytes())) == {"run", "sent", "proof"}


class _Refuses(http.server.BaseHTTPRequestHandler):
    """A server that takes no token."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def refusing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("why", ["no token, no server and no place", "wrong tokens"])
def test_trackers_that_cannot_be_reached_cost_a_sentence_each(why: str, refusing: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW", "TRACKIO"))}
    unset |= {"HOME": str(tmp_path), "WANDB_DIR": str(tmp_path), "NETRC": str(tmp_path / "none")}
    if why == "wrong tokens":
        trackers = {"WANDB_BASE_URL": refusing, "WANDB_API_KEY": "0" * 40, "MLFLOW_TRACKING_URI": refusing}
        trackers |= {"MLFLOW_TRACKING_TOKEN": "x", "TRACKIO_SERVER_URL": f"{refusing}/?write_token=x"}
    else:
        trackers = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "TRACKIO_DIR": str(tmp_path / "file")}
    words = [*PONG, "--run.dir", tmp_path / "run", "--run.budget-agent-steps", 10 * PER_ITERATION]
    said = jaxpg("jaxpg.train", *words, env={**unset, **trackers}).splitlines()
    assert sorted(line.split(": ")[1] for line in said) == ["mlflow", "trackio", "wandb"]
    assert len(records(tmp_path / "run")) == 10
