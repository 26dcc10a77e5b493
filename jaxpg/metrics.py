"""What a run writes as it goes: ``metrics.jsonl``, ``episodes.csv``, TensorBoard files, all through one protocol."""

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tensorboardX import SummaryWriter

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
        """Takes one iteration."""

    def close(self) -> None:
        """Flushes."""


class JsonLines:
    """``metrics.jsonl``: one JSON object a line, an iteration each.

    Args:
      path: the file; lines after ``last_iteration`` are dropped, because a resumed run writes them again.
    """

    def __init__(self, path: Path, last_iteration: int):
        _keep_lines(path, lambda line: json.loads(line)["iteration"] <= last_iteration)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class EpisodesCsv:
    """``episodes.csv``: one finished game a line; lines after ``last_agent_steps`` are dropped."""

    def __init__(self, path: Path, last_agent_steps: int):
        header = ",".join(EPISODE_HEADER)
        _keep_lines(path, lambda line: line == header or int(line.split(",")[0]) <= last_agent_steps)
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if self._file.tell() == 0:
            self._writer.writerow(EPISODE_HEADER)

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        self._writer.writerows(episodes)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Event files for TensorBoard; the horizontal axis is agent steps."""

    def __init__(self, folder: Path, last_agent_steps: int):
        self._writer = SummaryWriter(str(folder), purge_step=last_agent_steps + 1)

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        agent_steps = record["agent_steps"]
        for name, value in record.items():
            if value is not None and name != "agent_steps":
                self._writer.add_scalar(name, value, agent_steps)
        for episode in episodes:
            self._writer.add_scalar("episode/return", episode.episode_return, episode.agent_steps)

    def close(self) -> None:
        self._writer.close()


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that it is either old or new, never half."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file so that it is either old or new, never half."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _keep_lines(path: Path, wanted: Callable[[str], bool]) -> None:
    """Drops the lines of a text file that are not wanted, and a last line that was cut off."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    whole: Iterable[str] = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    write_text(path, "".join(line + "\n" for line in whole if wanted(line)))
