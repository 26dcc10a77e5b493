"""The process of one tracker: ``python -m jaxpg.run.trackers.follow NAME RUN_DIR`` sends a run folder to a tracker.

Flags ``--imports ...`` may follow: what the report of the run imports.

It goes on until its standard input ends, which happens when the training ends, however that ends.

Iterations are sent as soon as a checkpoint holds them. So a run that is killed and resumed never withdraws what it has
sent: the lines of ``metrics.jsonl`` after the checkpoint, which a resumed run writes anew, were not sent before.
"""

import hashlib
import importlib
import json
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import Timeout

from jaxpg.core.errors import UserError, first_line
from jaxpg.core.foreign_files import open_regular, read_json
from jaxpg.core.strict_yaml import read_yaml
from jaxpg.core.user_modules import HASHES
from jaxpg.machine.command import module_command
from jaxpg.machine.console import say, speak
from jaxpg.machine.durable_files import write_json
from jaxpg.run.trackers.tracked_run import Iteration, TrackedRun
from jaxpg.run.trackers.tracker import lock_of, proof_of

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_FOR_LOCK = 600.0
"""How long to wait for the process of a run that was killed, which may still send the last iterations."""
ITERATIONS_AT_ONCE = 500
RETURN, LENGTH = 4, 5
"""Places of two columns of ``episodes.csv`` (``jaxpg.run.writers.EPISODE_HEADER``)."""
SCORES = ("mean", "mean_low", "mean_high", "median", "iqm", "min", "max", "human_normalized", "episodes", "checkpoint")


def follow(name: str, folder: Path, is_over: Callable[[], bool], imports: Sequence[str] = ()) -> None:
    """Keeps a tracked run up to date with its folder until the training is over.

    Args:
      name: the tracker.
      folder: the run folder.
      is_over: waits a little, and says whether nothing more will come.
      imports: the flags with which a command imports what the training or the evaluation has imported.

    Raises:
      UserError: another process sends the same run to the same tracker.
    """
    place = folder / "trackers" / f"{name}.json"
    place.parent.mkdir(exist_ok=True)
    try:
        lock = lock_of(folder, name).acquire(timeout=SECONDS_FOR_LOCK)
    except Timeout as error:
        raise UserError("another process sends this run there") from error
    with lock:
        run_id, sent = _read_state(place)
        tracker = importlib.import_module(f"jaxpg.run.trackers.{name}_run")
        run: TrackedRun = tracker.open_run(folder, run_id)
        folder_reader = _RunFolder(folder, place, run, set() if run.is_new else sent)
        over = False
        while not over:
            over = is_over()
            folder_reader.send_news()
        ended = _ended(folder)
        if ended:
            folder_reader.send_page(imports)
        run.finish(ended)


class _RunFolder:
    """Sends to a tracker what is new in a run folder.

    Args:
      folder: the run folder.
      place: the file that keeps what the tracker calls the run, and what was sent besides iterations.
      run: the run as the tracker shows it.
      sent: marks of what was sent besides iterations.
    """

    def __init__(self, folder: Path, place: Path, run: TrackedRun, sent: set[str]):
        self._folder, self._place, self._run, self._sent = folder, place, run, sent
        self._config = ""  # mark of the settings that were sent
        self._metrics_bytes = self._episodes_bytes = 0  # how far the files were read
        self._keep()

    def send_news(self) -> None:
        """Sends settings, iterations, videos and evaluations that were not sent yet."""
        config = _mark(self._folder / "config.yaml")
        if config != self._config:
            self._run.set_config(_config(self._folder))
            self._config = config
        iterations = (one for one in self._iterations() if one.agent_steps > self._run.last_agent_steps)
        while batch := list(islice(iterations, ITERATIONS_AT_ONCE)):
            self._run.log(batch)
        for path in sorted((self._folder / "videos").glob("[!.]*.mp4")):
            self._send_once(_mark(path), partial(self._run.add_video, path), path.stem)
        for evaluation in _evaluations(self._folder / "evaluation.json"):
            if evaluation.get("actions") == "random":
                continue  # a baseline says nothing about the run
            scores = {f"evaluation/{key}": evaluation[key] for key in SCORES if evaluation.get(key) is not None}
            mark = f"evaluation {hashlib.sha256(json.dumps(evaluation, sort_keys=True).encode()).hexdigest()[:16]}"
            self._send_once(mark, partial(self._run.add_evaluation, scores), str(evaluation["checkpoint"]))

    def send_page(self, imports: Sequence[str]) -> None:
        """Sends the report, unless nothing on it has changed; ``imports`` are flags as for ``follow``."""
        names = ("config.yaml", "metrics.jsonl", "evaluation.json", "summary.json", "videos")
        state = " ".join(_mark(self._folder / name) for name in names)
        mark = f"report-{hashlib.sha256(state.encode()).hexdigest()[:16]}.html"
        if mark not in self._sent:
            page = self._place.with_name(mark)
            with lock_of(self._folder, "report"):  # the page is made once for all trackers
                if not page.exists():
                    _make_page(self._folder, page, imports)
            self._send_once(mark, partial(self._run.add_page, page), "the newest")

    def _send_once(self, mark: str, send: Callable[[int], None], checkpoint: str) -> None:
        """Calls ``send`` with the agent steps of the checkpoint, unless the marked thing was sent already."""
        if mark not in self._sent:
            send(self._agent_steps(checkpoint))
            self._sent.add(mark)
            self._keep()

    def _keep(self) -> None:
        run_id, name = self._run.run_id, self._place.stem
        write_json(self._place, {"run": run_id, "sent": sorted(self._sent), "proof": proof_of(name, run_id)})

    def _iterations(self) -> Iterator[Iteration]:
        """Yields the iterations that were not read yet, up to the newest checkpoint."""
        newest = _newest_checkpoint(self._folder)
        for line, end in _whole_lines(self._folder / "metrics.jsonl", self._metrics_bytes):
            record = json.loads(line)
            if record["iteration"] > newest:
                return
            self._metrics_bytes = end
            yield Iteration(record, *self._episodes_until(record["agent_steps"]))

    def _episodes_until(self, agent_steps: int) -> tuple[list[float], list[float]]:
        """Returns and lengths of the episodes that ended by then and were not read yet."""
        returns, lengths = [], []
        for line, end in _whole_lines(self._folder / "episodes.csv", self._episodes_bytes):
            cells = line.split(b",")
            if cells[0].isdigit():  # not the header
                if int(cells[0]) > agent_steps:
                    break
                returns.append(float(cells[RETURN]))
                lengths.append(float(cells[LENGTH]))
            self._episodes_bytes = end
        return returns, lengths

    def _agent_steps(self, checkpoint: str) -> int:
        """Agent steps of the run at a checkpoint; where there is none of that name, those of the newest iteration."""
        for line, _ in _whole_lines(self._folder / "metrics.jsonl", 0) if checkpoint.isdecimal() else ():
            record = json.loads(line)
            if record["iteration"] == int(checkpoint):
                return int(record["agent_steps"])
        return max(self._run.last_agent_steps, 0)


def _read_state(place: Path) -> tuple[str | None, set[str]]:
    """What the tracker calls the run, and marks of what was sent; None and nothing for a new tracked run.

    Raises:
      UserError: the file is damaged, or its name for the run could be a place elsewhere.
    """
    if not place.exists():
        return None, set()
    try:
        state = read_json(place)
        run_id, sent = state["run"], {str(mark) for mark in state["sent"]}
        if re.fullmatch(r"[\w-][\w.-]{0,199}", run_id):
            return run_id, sent
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{place}: damaged; remove it to begin another tracked run")


def _make_page(folder: Path, page: Path, imports: Sequence[str]) -> None:
    """Writes the report of the run, and removes those of earlier states of the run."""
    for older in page.parent.glob("report-*.html"):
        older.unlink()
    command = [*module_command("jaxpg.report"), str(folder), "--out", str(page), *imports]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def _whole_lines(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """Yields each whole line from the byte ``start`` on, and the byte after the line."""
    if path.exists():
        with open_regular(path) as file:
            file.seek(start)
            for line in file:
                if line.endswith(b"\n"):
                    start += len(line)
                    yield line, start


def _newest_checkpoint(folder: Path) -> int:
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return max((int(name) for name in names if re.fullmatch(r"\d+", name)), default=-1)


def _config(folder: Path) -> Mapping[str, Any]:
    """The settings of the run by key, such as ``run.seed``, as they stand in ``config.yaml``."""
    flat: dict[str, Any] = {}
    for key, part in json.loads(json.dumps(read_yaml(folder / "config.yaml"))).items():
        if key not in ("history", HASHES):
            flat |= {f"{key}.{name}": x for name, x in part.items()} if isinstance(part, dict) else {key: part}
    return flat


def _evaluations(path: Path) -> list[dict[str, Any]]:
    return read_json(path) if path.exists() else []


def _ended(folder: Path) -> str | None:
    path = folder / "summary.json"
    return str(read_json(path)["ended"]) if path.exists() else None


def _mark(path: Path) -> str:
    """Names a file in one state of it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return f"no {path.name}"
    return f"{path.name} {found.st_size} {found.st_mtime_ns}"


def _input_ends() -> bool:
    """Waits a little, and says whether the standard input has ended."""
    ready, _, _ = select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)
    return bool(ready)


def main() -> None:
    """Runs the process of one tracker; an error is the last line that it writes."""
    speak()
    name, folder, *imports = sys.argv[1:]
    try:
        follow(name, Path(folder), _input_ends, imports)
    except Exception as error:  # of the tracker's library, which may raise anything
        words = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        say(f"jaxpg: {words}", error=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
