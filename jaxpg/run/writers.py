"""Writers of ``metrics.jsonl``, ``episodes.csv`` and TensorBoard files, and the protocol that they share."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import from_json, open_regular
from jaxpg.core.registry import Registry
from jaxpg.core.stand_in import stand_in
from jaxpg.core.types import Episodes
from jaxpg.machine.durable_files import write_parts
from jaxpg.run.trackers.tracker import TRACKERS, Tracker

# tensorboardX imports PyTorch wherever it is installed, to know its tensors. jaxpg writes none, and the import would
# take a second and more of every start, and 180 MB.
with stand_in("torch", None):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import text

Record = dict[str, float | int | None]
"""The numbers of one iteration by name. None stands for a number that does not exist yet; JSON writes it as null."""


class EpisodeRow(NamedTuple):
    """One finished episode, a line of ``episodes.csv``."""

    agent_steps: int
    """Agent steps of the whole run when the episode ended."""
    wall_seconds: float
    """Seconds of training when the iteration ended."""
    lane: int
    """Number of the lane."""
    candidate: int
    """Id of the candidate that played; 0 for a gradient learner."""
    episode_return: float
    """The episode's return."""
    length_agent_steps: int
    """Agent steps of the episode."""
    member: int = 0
    """Number of the member, in a population."""


def episode_rows(episodes: Episodes, agent_steps_before: int, num_lanes: int, wall_seconds: float) -> list[EpisodeRow]:
    """Makes a row for each episode that ended in a rollout.

    Args:
      episodes: the episodes that ended; ``step`` counts the rollout's agent steps of one lane.
      agent_steps_before: agent steps of these lanes before the rollout.
      num_lanes: the number of lanes; in a population those of each member.
      wall_seconds: seconds of training so far.
    """
    return [
        EpisodeRow(
            agent_steps_before + (step + 1) * num_lanes,
            round(wall_seconds, 3),
            lane,
            candidate,
            episode_return,
            length,
            member=lane // num_lanes,
        )
        for step, lane, candidate, episode_return, length in zip(*(c.tolist() for c in episodes), strict=True)
    ]


EPISODE_HEADER = ["agent_steps", "wall_seconds", "lane", "candidate", "return", "length_agent_steps", "member"]
"""The columns of ``episodes.csv``. Only a population has the last one."""


def episode_header(*, has_members: bool) -> str:
    """The first line of ``episodes.csv``."""
    return ",".join(EPISODE_HEADER if has_members else EPISODE_HEADER[:-1])


class Writer(Protocol):
    """Receives the record and the finished episodes of every iteration.

    A writer may raise any error. The run then prints a warning and goes on. A writer that keeps something in memory
    can have a third method, ``sync(self)``. Before each checkpoint it puts all of that on the disk, because a run that
    is killed goes on from the checkpoint and does not write again what came before.
    """

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        """Writes one iteration; raises OSError where it cannot be written now."""

    def close(self) -> None:
        """Flushes and closes; raises OSError where something is lost."""


class _Lines:
    """A text file that grows by whole lines. Lines that do not fit on a full disk wait for the next write.

    Args:
      path: the file, which may exist already.
      wanted: says of each line that the file already has whether it stays. An incomplete last line is dropped.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]):
        self._path = path
        if path.exists():
            write_parts(path, _wanted_lines(path, wanted))
        self._file = path.open("ab", buffering=0)
        self.size_bytes = self._file.seek(0, os.SEEK_END)
        self._waiting = b""

    def add(self, text: str) -> None:
        """Writes whole lines. Where not all of them can be written, raises OSError and writes none."""
        self._waiting += text.encode()
        written = 0
        try:
            while written < len(self._waiting):
                written += self._file.write(self._waiting[written:])
        except OSError as error:
            self._file.truncate(self.size_bytes)
            raise OSError(error.errno, f"{self._path.name} cannot be written: {error.strerror}") from error
        self.size_bytes += written
        self._waiting = b""

    def sync(self) -> None:
        """Returns when all lines are on the disk; raises OSError where they cannot be written."""
        self.add("")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes the lines that wait, and closes the file; raises OSError where lines are lost."""
        try:
            self.sync()
        finally:
            self._file.close()


def _wanted_lines(path: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yields the complete lines that are wanted, with their newlines; raises UserError where one cannot be read."""
    with open_regular(path) as file:
        for number, content in enumerate(file, start=1):
            try:
                line = content.decode()
                if line.endswith("\n") and wanted(line[:-1]):
                    yield line
            except (ValueError, LookupError, TypeError) as error:
                if content.endswith(b"\n"):
                    raise UserError(f"{path}:{number}: the line is damaged; correct it or remove it") from error


class JsonLines:
    """``metrics.jsonl``: one line for each iteration, which is a JSON object.

    Args:
      path: the file.
      last_iteration: later lines are dropped, because a resumed run writes them again.
    """

    def __init__(self, path: Path, last_iteration: int):
        self._lines = _Lines(path, lambda line: from_json(line)["iteration"] <= last_iteration)
        self.sync, self.close = self._lines.sync, self._lines.close

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._lines.add(json.dumps(record, allow_nan=False) + "\n")


class EpisodesCsv:
    """``episodes.csv``: one line for each finished episode.

    Args:
      path: the file.
      last_agent_steps: later lines are dropped, because a resumed run writes them again.
      has_members: whether the run trains a population.
    """

    def __init__(self, path: Path, last_agent_steps: int, *, has_members: bool = False):
        header = episode_header(has_members=has_members)
        self._columns = header.count(",") + 1
        self._lines = _Lines(path, lambda line: line == header or int(line.split(",")[0]) <= last_agent_steps)
        self.sync, self.close = self._lines.sync, self._lines.close
        if self._lines.size_bytes == 0:
            self._lines.add(header + "\n")

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._lines.add("".join(",".join(map(str, episode[: self._columns])) + "\n" for episode in episodes))


class TensorBoard:
    """Event files for TensorBoard; the horizontal axis is agent steps.

    The events repeat ``metrics.jsonl``. So when the disk is full, this writer stops until the run is resumed, and
    nothing is lost. It writes in the calling thread, because tensorboardX's own thread would hang on a full disk, and
    the training with it.

    Args:
      folder: the folder of the event files; its parent must exist.
      last_agent_steps: agent steps so far. TensorBoard drops the later events of an earlier process.
      settings: the settings of a new run as text, which TensorBoard shows; empty for none.
    """

    def __init__(self, folder: Path, last_agent_steps: int, settings: str = ""):
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))  # TensorBoard sorts files by name, which must not depend on the clock
        self._events: EventsWriter | None = EventsWriter(str(folder / f"events_{number:06}"))
        start = SessionLog(status=SessionLog.START)  # TensorBoard drops events of earlier processes after this step
        self._add(Event(wall_time=time.time(), step=last_agent_steps + 1, session_log=start))
        if settings:
            shown = text("settings", "".join(f"    {line}\n" for line in settings.splitlines()))  # Markdown for code
            self._add(Event(wall_time=time.time(), step=last_agent_steps, summary=shown))

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        values = {name: value for name, value in record.items() if value is not None and name != "agent_steps"}
        self._add(_event(record["agent_steps"], values))
        for episode in episodes:
            self._add(_event(episode.agent_steps, {"episode/return": episode.episode_return}))

    def sync(self) -> None:
        """Returns when all events are on the disk; raises OSError where they cannot be written."""
        with self._ends_where_it_fails():
            if self._events:
                self._events.flush()

    def close(self) -> None:
        with suppress(OSError):
            if self._events:
                self._events.close()

    def _add(self, event: Event) -> None:
        with self._ends_where_it_fails():
            if self._events:
                self._events.write_event(event)

    @contextmanager
    def _ends_where_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._events = None
            raise OSError(error.errno, f"tensorboard/ cannot be written: {error.strerror}") from error


def _event(agent_steps: Any, values: dict[str, Any]) -> Event:
    shown = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return Event(wall_time=time.time(), step=agent_steps, summary=Summary(value=shown))


WriterFactory = Callable[[Path, int], Writer]
"""Function ``(run folder, agent steps so far) -> writer``. The agent steps are 0 for a new run."""


def _tensorboard(folder: Path, agent_steps: int) -> TensorBoard:
    settings = "" if agent_steps else (folder / "config.yaml").read_text(encoding="utf-8")
    return TensorBoard(folder / "tensorboard", agent_steps, settings)


def _tracker(name: str) -> WriterFactory:
    return lambda folder, agent_steps: Tracker(name, folder)


WRITERS: Registry[WriterFactory] = Registry(
    "run.writers",
    {
        "tensorboard": _tensorboard,
        **{name: _tracker(name) for name in TRACKERS},
    },
)
"""Writers that ``run.writers`` can name. ``metrics.jsonl`` and ``episodes.csv`` are always written."""
