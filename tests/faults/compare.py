"""What of a run must be the same to the bit however often it was interrupted, and where two runs differ."""

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from jaxpg.config import load_recipe
from jaxpg.experiment import build
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.members import first_state
from tests.faults.runs import episodes, metrics, uninterrupted


class Fingerprint(NamedTuple):
    """The parts of a run that no interruption may change."""

    metrics: list[dict]
    episodes: list[dict]
    arrays: dict[str, bytes]
    metadata: dict[str, Any]
    tensorboard: dict[str, list[tuple[int, float]]]
    """Agent steps and values of each scalar."""


def like(folder: Path) -> Any:
    """The shapes of what a checkpoint of this run holds."""
    experiment = build(load_recipe(folder / "config.yaml"))
    experiment.fleet.close()
    return jax.eval_shape(lambda: first_state(experiment, seed=0)[0])


def as_bytes(state: Any) -> dict[str, bytes]:
    """Every array of a state by its name."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): _numbers(leaf).tobytes() for path, leaf in leaves}


def _numbers(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def _is_of_a_clock(name: str) -> bool:
    return "seconds" in name or "per_second" in name


def untimed(rows: list[dict]) -> list[dict]:
    """Rows without what a clock says."""
    return [{name: x for name, x in row.items() if not _is_of_a_clock(name)} for row in rows]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself shows of a run, without what a clock says."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns where a resumed run plays something again
    shown = EventAccumulator(str(folder / "tensorboard"), size_guidance={SCALARS: 0}).Reload()
    names = [name for name in shown.Tags()[SCALARS] if not _is_of_a_clock(name)]
    return {name: [(event.step, event.value) for event in shown.Scalars(name)] for name in names}


def as_plain(metadata: Any) -> dict[str, Any]:
    """What a checkpoint says besides its arrays, without what a clock says and which save is the best of those made."""
    data = json.loads(metadata.to_json())
    progress = {name: x for name, x in data["progress"].items() if not name.startswith("best_")}
    return {**untimed([progress])[0], "games": data["games"]}


def fingerprint(folder: Path) -> Fingerprint:
    """Reads a finished run."""
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        state, metadata = checkpoints.restore(checkpoints.iterations()[-1], like(folder))
    finally:
        checkpoints.close()
    return Fingerprint(
        untimed(metrics(folder)), untimed(episodes(folder)), as_bytes(state), as_plain(metadata), scalars(folder)
    )


@cache
def expected(kind: str) -> Fingerprint:
    return fingerprint(uninterrupted(kind))


def differences(kind: str, folder: Path, *, has_gaps_in_tensorboard: bool = False) -> list[str]:
    """Where a run differs from one of its kind that nothing happened to; empty where it does not."""
    ours, theirs = expected(kind), fingerprint(folder)
    if has_gaps_in_tensorboard:
        ours, theirs = (one._replace(tensorboard={}) for one in (ours, theirs))
    return compare(ours, theirs) + irregular(folder)


def compare(ours: Fingerprint, theirs: Fingerprint) -> list[str]:
    found = []
    for name in ("metrics", "episodes"):
        a, b = getattr(ours, name), getattr(theirs, name)
        first = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        if a != b:
            found.append(
                f"{name}: line {first + 1} of {len(a)} and {len(b)}: {a[first : first + 1]}, {b[first : first + 1]}"
            )
    for name in ("arrays", "metadata", "tensorboard"):
        a, b = getattr(ours, name), getattr(theirs, name)
        found += [f"{name}: {key} differs" for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return found


def irregular(folder: Path) -> list[str]:
    """Iterations and games that were lost or stand there twice."""
    rows, played = metrics(folder), episodes(folder)
    numbers = [row["iteration"] for row in rows]
    ends = [(game["agent_steps"], game["lane"]) for game in played]
    found = [] if numbers == list(range(1, len(rows) + 1)) else [f"metrics.jsonl: iterations {numbers}"]
    if len(set(ends)) != len(ends):
        found.append("episodes.csv: a game stands there twice")
    if rows and rows[-1]["episodes"] != len(played):
        found.append(f"episodes.csv: {len(played)} games, but metrics.jsonl counts {rows[-1]['episodes']}")
    return found
