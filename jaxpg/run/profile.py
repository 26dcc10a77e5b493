"""Profiles some iterations of a run. Perfetto (ui.perfetto.dev) opens the trace, and so does XProf."""

from pathlib import Path

import jax

from jaxpg.core.errors import UserError, first_line
from jaxpg.machine.console import say


def check_profile(profile: tuple[int, int] | None) -> None:
    """Raises UserError where the numbers are no first and last iteration."""
    if profile and not 1 <= profile[0] <= profile[1]:
        raise UserError(f"profile: the first and the last iteration, such as 10 12, not {profile[0]} {profile[1]}")


class Profile:
    """Callback that traces what the process does from one iteration to another.

    Args:
      folder: the folder for the trace.
      first: the first iteration to trace, counted from 1.
      last: the last iteration to trace.
      iteration: how many iterations of the run are over.

    Raises:
      UserError: the first iteration is over.
    """

    def __init__(self, folder: Path, first: int, last: int, iteration: int):
        if first <= iteration:
            raise UserError(f"profile: iteration {first} is over; the run goes on with iteration {iteration + 1}")
        self._folder, self._first, self._last = folder, first, last
        self._traces = False
        self._look(iteration)

    def __call__(self, record: dict[str, float | int | None], episodes: object) -> None:
        """Begins or ends the trace, if it is time."""
        self._look(int(record["iteration"] or 0))

    def close(self) -> None:
        """Ends the trace, if the run ends before the last iteration."""
        if not self._traces:
            return
        self._traces = False
        try:
            jax.profiler.stop_trace()
            trace = max(self._folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        except Exception as error:  # of the profiler's library, which names no types
            say(f"jaxpg: the profile was not written: {first_line(error)}", error=True)
        else:
            say(f"jaxpg: profile from iteration {self._first} on: {trace}; ui.perfetto.dev opens it")

    def _look(self, iteration: int) -> None:
        if iteration == self._first - 1:
            try:
                jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
                self._traces = True
            except Exception as error:
                say(f"jaxpg: no profile is made: {first_line(error)}", error=True)
        elif iteration >= self._last:
            self.close()
