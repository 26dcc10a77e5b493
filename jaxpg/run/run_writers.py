"""All writers of one run together. A writer that fails costs a warning and never ends the training."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxpg.core.errors import UserError, first_line
from jaxpg.core.user_modules import own_code
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.writers import EpisodeRow, EpisodesCsv, JsonLines, Record, Writer


class RunWriters:
    """``metrics.jsonl``, ``episodes.csv`` and any further writers.

    Args:
      folder: the run folder.
      progress: how far the run is. Lines of the two files beyond it are dropped, because the run writes them again.
      others: further writers.
      warn: receives one sentence when writing begins to fail.
    """

    def __init__(self, folder: Path, progress: RunProgress, others: Sequence[Writer], warn: Callable[[str], None]):
        self._logs: list[JsonLines | EpisodesCsv] = [
            JsonLines(folder / "metrics.jsonl", progress.iteration),
            EpisodesCsv(folder / "episodes.csv", progress.agent_steps, has_members=bool(progress.members)),
        ]
        self._others = others
        self._warn = warn
        self._failing: set[int] = set()  # which of the writers fail

    def sync(self) -> None:
        """Returns when everything is on the disk, because a checkpoint must not be ahead of what was written.

        Raises:
          OSError: the lines of the two files cannot be written.
        """
        for log in self._logs:
            log.sync()
        for writer in self._others:
            if sync := getattr(writer, "sync", None):
                try:
                    sync()
                except Exception as error:  # a writer may be the user's own code and raise anything
                    self._warn(f"{_words(writer, error, 'sync(self)')}; the training goes on")

    def write(self, record: Record, episodes: list[EpisodeRow]) -> None:
        """Passes the record and the episodes of one iteration to every writer."""
        troubles = {}
        for i, writer in enumerate((*self._logs, *self._others)):
            try:
                writer.write(record, episodes)
            except Exception as error:  # as in ``sync``
                troubles[i] = _words(writer, error, "write(self, record, episodes)")
        new = [words for i, words in troubles.items() if i not in self._failing]
        if new:
            self._warn(f"{', '.join(new)}; the training goes on, and what is missing is written later")
        self._failing = set(troubles)

    def close(self) -> str | None:
        """Closes every writer; returns a sentence where lines of the two files are lost, else None."""
        lost = None
        for writer in (*self._logs, *self._others):
            try:
                writer.close()
            except Exception as error:
                if writer in self._logs:
                    lost = first_line(error)
                else:
                    self._warn(f"{_words(writer, error, 'close(self)')}; it could not be closed")
        return lost


def _words(writer: Writer, error: Exception, takes: str) -> str:
    """Words for an error of a writer's method, with the place in the user's file, or with what the method must take."""
    if isinstance(error, OSError):
        return first_line(error)
    name = type(writer).__name__
    try:
        with own_code(name, type(writer), takes):
            raise error
    except UserError as sentence:
        return str(sentence)
    except Exception:  # a mistake of a writer of jaxpg's
        return f"{name}: {type(error).__name__}: {error}"
