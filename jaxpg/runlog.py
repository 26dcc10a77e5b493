"""Reading what a run left, finished, broken off or still being written, for people to look at.

What cannot be read is left out and named in a remark; only a folder that is no run is an error.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from jaxpg.checkpoint import Checkpoints
from jaxpg.config import Config
from jaxpg.counters import Progress
from jaxpg.errors import UserError
from jaxpg.evaluations import Evaluation, read_evaluations
from jaxpg.metrics import EPISODE_HEADER, EpisodeRow, Record
from jaxpg.saved import load_run

NUMBERS = ("iteration", "agent_steps", "wall_seconds", "agent_steps_per_second")
"""What every line of ``metrics.jsonl`` has to say."""


class Video(NamedTuple):
    """A recorded game, or several."""

    path: Path
    trace: dict[str, Any] | None
    """What was played, step by step; None for a grid of several checkpoints."""


class RunLog(NamedTuple):
    """All that is known of one run."""

    name: str
    config: Config
    records: list[Record]
    games: list[EpisodeRow]
    checkpoints: list[Progress]
    evaluations: list[Evaluation]
    videos: list[Video]
    ended: str | None
    """Why the run ended; None while it goes on, or when it was killed."""
    remarks: list[str]


def read_run(folder: str) -> RunLog:
    """Reads a run folder without changing anything in it.

    Raises:
      UserError: it is no run.
    """
    config = load_run(folder)
    path = Path(folder)
    remarks: list[str] = []
    return RunLog(
        name=path.resolve().name.encode("utf-8", "backslashreplace").decode(),  # which may be any bytes
        config=config,
        records=_read_records(path / "metrics.jsonl", remarks),
        games=_read_games(path / "episodes.csv", remarks),
        checkpoints=_read_checkpoints(path / "checkpoints", remarks),
        evaluations=_read_evaluations(path / "evaluation.json", remarks),
        videos=_read_videos(path / "videos", remarks),
        ended=_read_end(path / "summary.json", remarks),
        remarks=remarks,
    )


def _read_records(path: Path, remarks: list[str]) -> list[Record]:
    records: list[Record] = []
    lines = _whole_lines(path, remarks)
    for line in lines:
        try:
            record = json.loads(line)
            if all(_is_number(record[name]) for name in NUMBERS):
                records.append({name: x if _is_number(x) else None for name, x in record.items()})
        except (ValueError, KeyError, TypeError):
            continue
    _remark_on_damage(path, len(lines) - len(records), remarks)
    return records


def _read_games(path: Path, remarks: list[str]) -> list[EpisodeRow]:
    games: list[EpisodeRow] = []
    lines = _whole_lines(path, remarks)
    for row in csv.reader(lines[1:]):
        try:
            steps, wall, lane, candidate, total, length = row
            game = EpisodeRow(int(steps), float(wall), int(lane), int(candidate), float(total), int(length))
            if math.isfinite(game.episode_return) and game.candidate >= 0:
                games.append(game)
        except ValueError:
            continue
    header_is_wrong = bool(lines) and lines[0] != ",".join(EPISODE_HEADER)
    _remark_on_damage(path, header_is_wrong + max(len(lines) - 1, 0) - len(games), remarks)
    return games


def _read_checkpoints(path: Path, remarks: list[str]) -> list[Progress]:
    if not path.is_dir():
        remarks.append("no checkpoint yet")
        return []
    found = []
    checkpoints = Checkpoints(path)
    try:
        for iteration in checkpoints.iterations():
            try:
                found.append(checkpoints.metadata(iteration).progress)
            except UserError as error:
                remarks.append(str(error))
    finally:
        checkpoints.close()
    if not found:
        remarks.append("no checkpoint yet")
    return found


def _read_evaluations(path: Path, remarks: list[str]) -> list[Evaluation]:
    try:
        return read_evaluations(path)
    except UserError as error:
        remarks.append(str(error))
        return []


def _read_videos(folder: Path, remarks: list[str]) -> list[Video]:
    """The folder's own videos: a link to a file elsewhere would carry that file into the report."""
    videos = []
    for path in sorted(folder.glob("*.mp4"), key=_number_in_name):
        if path.name.startswith("."):
            continue  # not whole yet
        if path.is_symlink() or not path.is_file():
            remarks.append(f"{path.name} is no file of this run's own")
            continue
        videos.append(Video(path, _read_trace(path.with_suffix(".json"), remarks)))
    return videos


def _read_trace(path: Path, remarks: list[str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        trace = json.loads(path.read_text(encoding="utf-8"))
        whole = _is_trace(trace)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        remarks.append(f"{path.name} is damaged and left out")
        return None
    return trace


def _is_trace(trace: dict[str, Any]) -> bool:
    """Whether all is there that the page shows; a missing key is a KeyError."""
    names, games = trace["action_names"], trace["games"]
    if not (isinstance(trace["checkpoint"], int) and games and all(name.isprintable() for name in names)):
        return False
    for game in games:
        columns = [game["rewards"], game["returns_to_go"], *([game["values"]] if game["values"] else [])]
        columns += zip(*game["probabilities"], strict=True)
        if len({len(column) for column in columns}) != 1 or len(game["probabilities"][0]) != len(names):
            return False
        if not all(_is_number(x) for column in columns for x in column):
            return False
    return True


def _read_end(path: Path, remarks: list[str]) -> str | None:
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["ended"])
    except (OSError, ValueError, KeyError, TypeError):
        remarks.append(f"{path.name} is damaged and left out")
        return None


def _whole_lines(path: Path, remarks: list[str]) -> list[str]:
    """The lines of a text file; a last one that is not whole yet is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        remarks.append(f"no {path.name} yet")
        return []
    return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]


def _remark_on_damage(path: Path, lines: int, remarks: list[str]) -> None:
    if lines:
        remarks.append(f"{path.name}: {lines} damaged {'line is' if lines == 1 else 'lines are'} left out")


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _number_in_name(path: Path) -> tuple[float, str]:
    return (float(path.stem) if path.stem.isdecimal() else float("inf"), path.stem)
