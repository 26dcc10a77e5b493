"""Reads the folder of a run for a report. The run may be finished, interrupted or still in training.

A file or line that cannot be read is left out and named in a remark. Only a folder that is not a run is an error.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxpg.config import Change, Config, load_history, load_imported, load_run
from jaxpg.core.errors import UserError
from jaxpg.core.foreign_files import from_json, open_regular, read_json
from jaxpg.core.run_config import members_of
from jaxpg.core.user_modules import NOBODY, Trust
from jaxpg.core.validation import is_number
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.writers import EpisodeRow, Record, episode_header
from jaxpg.scores.evaluation_file import Evaluation, read_evaluations

NUMBERS = ("iteration", "agent_steps", "wall_seconds", "agent_steps_per_second")
"""Keys that every line of ``metrics.jsonl`` must have."""

MAX_RECORDS, MAX_GAMES = 100_000, 500_000
"""How many iterations and episodes are kept in memory at most, which takes about 150 MB each.

Where a run has more, every second is kept, or every fourth, and so on. A line about the members of a population counts
once for each of them.
"""
MAX_LINE_BYTES = 1_000_000
"""No line that a run writes is longer."""
MAX_NUMBERS = 300
"""Numbers in a line of ``metrics.jsonl``. Each of the learner's own makes a chart."""
MAX_VIDEO_BYTES = 300_000_000
"""Largest video that is copied into the page."""
T = TypeVar("T")


class Video(NamedTuple):
    """A video of one episode or several."""

    path: Path
    trace: dict[str, Any] | None
    """What happened in each agent step; None where the video has no trace, as a grid of several checkpoints."""


class RunLog(NamedTuple):
    """Everything that the folder of a run says about it."""

    name: str
    """Name of the folder."""
    config: Config
    history: list[Change]
    """Settings that were changed when the run was resumed."""
    records: list[Record]
    games: list[EpisodeRow]
    """The episodes that ended in training."""
    checkpoints: list[RunProgress]
    """How far the run was at each checkpoint, oldest first."""
    evaluations: list[Evaluation]
    videos: list[Video]
    ended: str | None
    """Why the run ended; None while the run goes on, and where it was killed."""
    remarks: list[str]
    """Sentences about files and lines that could not be read."""


def config_of_log(folder: str, trust: Trust = NOBODY) -> Config:
    """Reads the configuration of a run whose logs are to be shown.

    A page plays no policy, so it needs no code that the run names, except for a learner of the user's own, whose code
    defines the learner's settings. So a run is shown, too, where that code is not there or not trusted.

    Raises:
      UserError: the folder is not a run, or its learner is unknown and its imports are not trusted.
    """
    try:
        return load_run(folder, trust)
    except UserError:
        with suppress(UserError):
            return load_imported(Path(folder) / "config.yaml")
        raise


def read_run(folder: str, trust: Trust = NOBODY) -> RunLog:
    """Reads a run folder without changing anything in it.

    Args:
      folder: the run folder.
      trust: which modules that the configuration names may be imported.

    Raises:
      UserError: the folder is not a run.
    """
    config = config_of_log(folder, trust)
    path = Path(folder)
    remarks: list[str] = []
    members = len(members_of(config.run))
    return RunLog(
        name=path.resolve().name.encode("utf-8", "backslashreplace").decode(),  # the name may be any bytes
        config=config,
        history=load_history(path / "config.yaml"),
        records=_read_records(path / "metrics.jsonl", remarks, members),
        games=_read_games(path / "episodes.csv", remarks, has_members=members > 1),
        checkpoints=_read_checkpoints(path / "checkpoints", remarks),
        evaluations=_read_evaluations(path / "evaluation.json", remarks),
        videos=_read_videos(path / "videos", remarks),
        ended=_read_end(path / "summary.json", remarks),
        remarks=remarks,
    )


def _read_records(path: Path, remarks: list[str], members: int) -> list[Record]:
    records, every = _read_lines(path, _record, MAX_RECORDS // members, remarks)
    for record in records if every > 1 else []:
        for name in record:
            if name.endswith("_seconds") and name != "wall_seconds":
                record[name] = every * (record[name] or 0)  # stands for the iterations that are left out too
    return records


def _record(line: str) -> Record:
    record = from_json(line)
    if not all(is_number(record[name]) and record[name] >= 0 for name in NUMBERS):
        raise ValueError("not all numbers are there")
    if len(record) > MAX_NUMBERS or not all(name.isprintable() for name in record):
        raise ValueError("no names of numbers")
    return {name: x if is_number(x) else None for name, x in record.items()}


def _read_games(path: Path, remarks: list[str], *, has_members: bool) -> list[EpisodeRow]:
    return _read_lines(path, _game, MAX_GAMES, remarks, header=episode_header(has_members=has_members))[0]


def _game(line: str) -> EpisodeRow:
    steps, wall, lane, candidate, total, length, *member = line.split(",")
    game = EpisodeRow(int(steps), float(wall), int(lane), int(candidate), float(total), int(length), *map(int, member))
    if not all(is_number(x) for x in game) or min(game.agent_steps, game.candidate, game.length_agent_steps) < 0:
        raise ValueError("no game")
    return game


def _read_lines(
    path: Path, parse: Callable[[str], T], most: int, remarks: list[str], *, header: str = ""
) -> tuple[list[T], int]:
    """Parses the lines of a file and keeps at most about ``most`` of them, evenly spaced, so that they fit into memory.

    Args:
      path: the file.
      parse: parses one line. Where it raises ValueError, KeyError, TypeError or AttributeError, the line is damaged.
      most: how many parsed lines are kept.
      remarks: receives a sentence where lines are damaged or left out.
      header: the first line that the file must have; empty for none.

    Returns:
      The parsed lines that are kept, and n, where one line in n is kept.
    """
    kept: list[T] = []
    every, number, damaged, last = 1, 0, 0, None
    for line in _whole_lines(path, remarks):
        if header:
            damaged += line != header
            header = ""
            continue
        try:
            last = parse(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged += 1
            continue
        if number % every == 0:
            kept.append(last)
        if len(kept) > most:
            kept, every = kept[::2], 2 * every
        number += 1
    if last is not None and (number - 1) % every:
        kept.append(last)  # the last line says how far the run is
    if every > 1:
        remarks.append(f"{path.name}: one line in {every} is shown")
    _remark_on_damage(path, damaged, remarks)
    return kept, every


def _read_checkpoints(path: Path, remarks: list[str]) -> list[RunProgress]:
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
    """Finds the videos in the folder. Links are left out, because a link would copy a foreign file into the report."""
    videos: list[Video] = []
    if folder.is_symlink():
        remarks.append(f"{folder.name} is a link and left out")
        return videos
    for path in sorted(folder.glob("*.mp4"), key=_number_in_name):
        if path.name.startswith("."):
            continue  # a video that is still being written
        if path.is_symlink() or not path.is_file():
            remarks.append(f"{path.name} is not a regular file and left out")
            continue
        if path.stat().st_size > MAX_VIDEO_BYTES:
            remarks.append(f"{path.name} has more than {MAX_VIDEO_BYTES:,} bytes and is left out")
            continue
        videos.append(Video(path, _read_trace(path.with_suffix(".json"), remarks)))
    return videos


def _read_trace(path: Path, remarks: list[str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        trace = read_json(path)
        whole = _is_trace(trace)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        remarks.append(f"{path.name} is damaged and left out")
        return None
    return trace


def _is_trace(trace: dict[str, Any]) -> bool:
    """Whether the trace has everything that the page shows; raises KeyError where a key is missing."""
    names, games = trace["action_names"], trace["games"]
    if not (isinstance(trace["checkpoint"], int) and games and all(name.isprintable() for name in names)):
        return False
    for game in games:
        columns = [game["rewards"], game["returns_to_go"], *([game["values"]] if game["values"] else [])]
        columns += zip(*game["probabilities"], strict=True)
        if len({len(column) for column in columns}) != 1 or len(game["probabilities"][0]) != len(names):
            return False
        if not all(is_number(x) for column in columns for x in column):
            return False
    return True


def _read_end(path: Path, remarks: list[str]) -> str | None:
    if not path.exists():
        return None
    try:
        return str(read_json(path)["ended"])
    except (OSError, ValueError, KeyError, TypeError):
        remarks.append(f"{path.name} is damaged and left out")
        return None


def _whole_lines(path: Path, remarks: list[str]) -> Iterator[str]:
    """Yields the lines of a text file; leaves out an incomplete last line, which is still being written."""
    try:
        with open_regular(path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                if line.endswith(b"\n") or len(line) == MAX_LINE_BYTES:
                    yield line.decode(errors="replace").rstrip("\r\n")
    except OSError:
        remarks.append(f"no {path.name} yet")


def _remark_on_damage(path: Path, lines: int, remarks: list[str]) -> None:
    if lines:
        remarks.append(f"{path.name}: {lines} damaged {'line is' if lines == 1 else 'lines are'} left out")


def _number_in_name(path: Path) -> tuple[float, str]:
    return (float(path.stem) if path.stem.isdecimal() else float("inf"), path.stem)
