"""What a run's start makes of broken and odd recipes.

``fuzz`` is the long form; ``test_fuzz_recipes.py`` is the short one.
"""

import contextlib
import dataclasses
import io
import itertools
import os
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax

from jaxpg.cli import parse_train
from jaxpg.config import Config, dump, load_recipe
from jaxpg.core.errors import UserError
from jaxpg.envs.footprint import emulators
from jaxpg.experiment import build
from jaxpg.machine import memory_estimate as sizes
from jaxpg.policies.observations import make_observation
from jaxpg.run.run_folder import new_run_folder
from jaxpg.train import main
from tests.faults.odd_recipes import recipes

SECONDS = 30
MOST_LANES = 8
"""Of a recipe that is built: on ALE each lane takes milliseconds."""


class BrokenError(AssertionError):
    """What a recipe must not do; the message ends with the recipe."""


def start(content: bytes, folder: Path) -> str | None:
    """What ``jaxpg.train`` does with a recipe until the training would begin.

    Returns the sentence that refuses the recipe, or None where it is accepted; whatever else happens is a BrokenError.
    """
    path, run = folder / "recipe.yaml", folder / "run"
    path.write_bytes(content)
    said = io.StringIO()
    sentence = None
    try:
        with _at_most(SECONDS), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("error")
            sentence = _start(path, run)
    except Exception as error:
        raise BrokenError(f"{type(error).__name__}: {error}\n{content!r}") from error
    if said.getvalue():
        raise BrokenError(f"said {said.getvalue()!r}\n{content!r}")
    if sentence is not None and (not sentence.strip() or len(sentence.splitlines()) != 1 or not sentence.isprintable()):
        raise BrokenError(f"no sentence: {sentence!r}\n{content!r}")
    left = {p.name for p in folder.iterdir()} - {path.name}
    if left:
        raise BrokenError(f"left {left}\n{content!r}")
    return sentence


def _start(path: Path, run: Path) -> str | None:
    try:
        config = parse_train([str(path), "--run.dir", str(run)]).config
        if config.env.num_lanes > MOST_LANES:  # what is too many is refused all the same
            config = _fewer_lanes(config)
        experiment = build(config)
        new_run_folder(load_recipe(path))
        new_run_folder(config)
    except UserError as error:
        return str(error)
    experiment.rollout.close()
    assert load_text(dump(config), path) == config
    params = jax.eval_shape(experiment.policy.init, jax.random.key(0))
    jax.eval_shape(experiment.learner.init, jax.random.key(0), params)
    return None


def _fewer_lanes(config: Config) -> Config:
    """The same with few lanes where the machine would hold them all, so that building it is quick."""
    sizes.check_memory([emulators(config.env, make_observation(config.observation).needs)])
    return dataclasses.replace(config, env=dataclasses.replace(config.env, num_lanes=MOST_LANES))


def load_text(text: str, path: Path) -> Config:
    """A recipe from its text, through a file."""
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def start_by_main(content: bytes, folder: Path) -> tuple[object, str]:
    """The command itself with a recipe that must be refused; returns its exit code and what it said on stderr."""
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main([str(path), "--run.dir", str(folder / "run")])
    except SystemExit as end:
        return end.code, said.getvalue()
    raise BrokenError(f"main returned\n{content!r}")


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """TimeoutError after this many seconds of the processor, or ten times as many by the clock: others may be busy."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds)}
    before = {number: signal.signal(number, end) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def fuzz(examples: int, seed: int) -> dict[str, Any]:
    """Starts runs from this many recipes and counts the accepted and refused; BrokenError with the first bad one."""
    outcomes: Counter[str] = Counter()
    slowest, began, count = 0.0, time.monotonic(), itertools.count()

    with tempfile.TemporaryDirectory(prefix="jaxpg-fuzz-") as root, contextlib.chdir(root):

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(recipes())
        def run(content: bytes) -> None:
            nonlocal slowest
            folder = Path(root) / f"{next(count)}"
            folder.mkdir()
            one = time.monotonic()
            sentence = start(content, folder)
            slowest = max(slowest, time.monotonic() - one)
            outcomes["accepted" if sentence is None else "refused"] += 1
            (folder / "recipe.yaml").unlink()
            os.rmdir(folder)

        run()
    return {**outcomes, "seconds": round(time.monotonic() - began, 1), "slowest_seconds": round(slowest, 2)}
