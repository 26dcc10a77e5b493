"""A long training whose memory, files and threads are watched: none of them may grow."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.runs import end, start

EVERY_SECONDS = 10
WARM_UP_SECONDS = 120
SHORT = [
    *("--env.max-episode-agent-steps", "250", "--checkpoint.segment-agent-steps", "250"),
    *("--checkpoint.every-seconds", "20"),
]
"""New emulators, and with them newly compiled rollouts, and saves come far more often than by default."""


def soak(minutes: float, folder: Path) -> Iterator[str]:
    """Trains on Pong for so long, and yields what it did as lines of a table in Markdown."""
    endless = ["--run.target-return", "None", "--run.budget-agent-steps", "1000000000"]
    process = start([*endless, *SHORT, "--run.dir", str(folder)])
    began, rows = time.monotonic(), []
    try:
        while process.poll() is None and time.monotonic() - began < 60 * minutes:
            rows.append([time.monotonic() - began, *sample(process.pid)])
            time.sleep(EVERY_SECONDS)
        alive = process.poll() is None
    finally:
        process.terminate()
        ended = end(process)
    if not alive:
        raise RuntimeError(f"the training ended of itself: {ended}")
    newest = max((folder / "checkpoints").glob("*/metadata.json"), key=lambda path: int(path.parent.name))
    progress = json.loads(newest.read_text())["progress"]
    yield f"{progress['agent_steps']:,} agent steps, {progress['segment'] + 1} segments"
    yield ""
    yield from table(np.array(rows))


def sample(pid: int) -> tuple[float, int, int]:
    """Resident memory in MiB, open file descriptors, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(status["VmRSS"].split()[0]) / 1024, descriptors, int(status["Threads"])


def table(rows: np.ndarray) -> Iterator[str]:
    """First, last, mean of each quarter and slope per hour of every column after the warm-up; the first is seconds."""
    rows = rows[rows[:, 0] >= WARM_UP_SECONDS]
    if len(rows) < 3:
        raise ValueError(f"fewer than three samples after the first {WARM_UP_SECONDS} seconds; soak for longer")
    yield f"| {len(rows)} samples | first | last | mean of each quarter | slope an hour | standard error |"
    yield "|---|---|---|---|---|---|"
    hours = rows[:, 0] / 3600
    for name, values in zip(["resident memory, MiB", "file descriptors", "threads"], rows[:, 1:].T, strict=True):
        slope, error = slope_and_error(hours, values)
        quarters = ", ".join(f"{quarter.mean():.1f}" for quarter in np.array_split(values, 4))
        yield f"| {name} | {values[0]:.1f} | {values[-1]:.1f} | {quarters} | {slope:.2f} | {error:.2f} |"


def slope_and_error(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line, and its standard error."""
    spread = ((x - x.mean()) ** 2).sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    left = y - y.mean() - slope * (x - x.mean())
    return float(slope), float(np.sqrt((left**2).sum() / (len(x) - 2) / spread))
