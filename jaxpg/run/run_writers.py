"""All writers of one run together, whose failures cost a sentence and never the training."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxpg.run.counters import Progress
from jaxpg.run.writers import EpisodeRow, EpisodesCsv, JsonLines, Record, Writer


class RunWriters:
    """``metrics.jsonl``, ``episodes.csv`` and any further writers.

    Args:
      folder: of the run.
      progress: how far the run is; what the two files say beyond it is dropped, because it is written again.
      others: further writers.
      warn: told a sentence when writing begins to fail.
    """

    def __init__(self, folder: Path, progress: Progress, others: Sequence[Writer], warn: Callable[[str], None]):
        self._logs: list[JsonLines | EpisodesCsv] = [
            JsonLines(folder / "metrics.jsonl", progress.iteration),
            EpisodesCsv(folder / "episodes.csv", progress.agent_steps),
        ]
        self._writers: list[Writer] = [*self._logs, *others]
        self._warn = warn
        self._fail = False

    def sync(self) -> None:
        """Returns when the two files are on the disk, which a checkpoint counts on; OSError where they cannot be."""
        for log in self._logs:
            log.sync()

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        """Gives one iteration to every writer."""
        troubles = []
        for writer in self._writers:
            try:
                writer.write(record, episodes)
            except Exception as error:  # of any kind, because a writer may be a user's own
                troubles.append(_words(writer, error))
        if troubles and not self._fail:
            self._warn(f"{', '.join(troubles)}; the training goes on, and what is missing is written later")
        self._fail = bool(troubles)

    def close(self) -> str | None:
        """Closes every writer; returns what is lost of the two files, None where nothing is."""
        lost = None
        for writer in self._writers:
            try:
                writer.close()
            except Exception as error:
                if writer in self._logs:
                    lost = str(error)
                else:
                    self._warn(f"{_words(writer, error)}; it could not be closed")
        return lost


def _words(writer: Writer, error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(writer).__name__}: {type(error).__name__}: {error}"
