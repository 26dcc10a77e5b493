"""What a run writes as it goes: ``metrics.jsonl``, ``episodes.csv``, TensorBoard files, all through one protocol."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from jaxpg.core.errors import UserError
from jaxpg.core.registry import Registry
from jaxpg.machine.durable_files import write_parts

Record = dict[str, float | int | None]
"""One iteration's numbers; None where there is none yet (it becomes null in JSON)."""


class EpisodeRow(NamedTuple):
    """One finished game; the field names are the header of ``episodes.csv``."""

    agent_steps: int  # of the whole run, when the game ended
    wall_seconds: float
    lane: int
    candidate: int
    episode_return: float
    length_agent_steps: int


EPISODE_HEADER = ["agent_steps", "wall_seconds", "lane", "candidate", "return", "length_agent_steps"]


class Writer(Protocol):
    """Where an iteration's record and its finished games go."""

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        """Takes one iteration; OSError where it cannot write it now."""

    def close(self) -> None:
        """Flushes; OSError where something is lost."""


class _Lines:
    """A text file that grows by whole lines. What a full disk does not take waits for the next time.

    Args:
      path: the file.
      wanted: the lines of an older file that stay; the others are dropped, and a last one that was cut off.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool]):
        self._path = path
        if path.exists():
            write_parts(path, _wanted_lines(path, wanted))
        self._file = path.open("ab", buffering=0)
        self.size_bytes = self._file.seek(0, os.SEEK_END)
        self._waiting = b""

    def add(self, text: str) -> None:
        """Writes whole lines; OSError where not all of them could be written, and then none is."""
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
        """Returns when all lines are on the disk; OSError where they cannot."""
        self.add("")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Tries once more; OSError where lines are lost."""
        try:
            self.sync()
        finally:
            self._file.close()


def _wanted_lines(path: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """The whole lines that are wanted, each with its end; UserError where one cannot be read."""
    with path.open("rb") as file:
        for number, content in enumerate(file, start=1):
            try:
                line = content.decode()
                if line.endswith("\n") and wanted(line[:-1]):
                    yield line
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                if content.endswith(b"\n"):
                    raise UserError(f"{path}:{number}: the line is damaged; correct it or take it out") from error


class JsonLines:
    """``metrics.jsonl``: one JSON object a line, an iteration each.

    Args:
      path: the file; lines after ``last_iteration`` are dropped, because a resumed run writes them again.
    """

    def __init__(self, path: Path, last_iteration: int):
        self._lines = _Lines(path, lambda line: json.loads(line)["iteration"] <= last_iteration)
        self.sync, self.close = self._lines.sync, self._lines.close

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._lines.add(json.dumps(record, allow_nan=False) + "\n")


class EpisodesCsv:
    """``episodes.csv``: one finished game a line; lines after ``last_agent_steps`` are dropped."""

    def __init__(self, path: Path, last_agent_steps: int):
        header = ",".join(EPISODE_HEADER)
        self._lines = _Lines(path, lambda line: line == header or int(line.split(",")[0]) <= last_agent_steps)
        self.sync, self.close = self._lines.sync, self._lines.close
        if self._lines.size_bytes == 0:
            self._lines.add(header + "\n")

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._lines.add("".join(",".join(map(str, episode)) + "\n" for episode in episodes))


class TensorBoard:
    """Event files for TensorBoard; the horizontal axis is agent steps.

    They repeat ``metrics.jsonl``: where the disk does not take them, they end there until the run is resumed. Written
    at once, because tensorboardX's thread would stand still on a full disk, and the training with it.
    """

    def __init__(self, folder: Path, last_agent_steps: int):
        folder.mkdir(exist_ok=True)
        self._events: EventsWriter | None = EventsWriter(str(folder / "events"), f".{last_agent_steps}")
        start = SessionLog(status=SessionLog.START)  # events after this step are of an older process
        self._add(Event(wall_time=time.time(), step=last_agent_steps + 1, session_log=start))

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        values = {name: value for name, value in record.items() if value is not None and name != "agent_steps"}
        self._add(_event(record["agent_steps"], values))
        for episode in episodes:
            self._add(_event(episode.agent_steps, {"episode/return": episode.episode_return}))

    def close(self) -> None:
        with suppress(OSError):
            if self._events:
                self._events.close()

    def _add(self, event: Event) -> None:
        if self._events is None:
            return
        try:
            self._events.write_event(event)
        except OSError as error:
            self._events = None
            raise OSError(error.errno, f"tensorboard/ cannot be written: {error.strerror}") from error


def _event(agent_steps: Any, values: dict[str, Any]) -> Event:
    shown = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return Event(wall_time=time.time(), step=agent_steps, summary=Summary(value=shown))


WriterFactory = Callable[[Path, int], Writer]
"""``(run folder, agent steps so far) -> writer``; agent steps are more than 0 where the run is resumed."""

WRITERS: Registry[WriterFactory] = Registry(
    "run.writers", {"tensorboard": lambda folder, agent_steps: TensorBoard(folder / "tensorboard", agent_steps)}
)
"""What ``run.writers`` can name, besides ``metrics.jsonl`` and ``episodes.csv``, which are always written."""
