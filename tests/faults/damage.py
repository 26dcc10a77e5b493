"""Checkpoints that were damaged on the disk: noticed, named and gone round, or refused, but never loaded wrongly."""

import contextlib
import io
import random
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jaxpg.core.errors import UserError
from jaxpg.run.checkpoints import Checkpoints
from tests.faults import compare
from tests.faults.runs import End, Outcome, finish, interrupted
from tests.faults.signals import refusal
from tests.faults.vandals import VANDALS

KINDS = ("reinforce", "jax-sweep")
"""Of the second, checkpoints also hold lanes, and a state for each member."""
ALL_DAMAGED_SHARE = 0.25


class Good(NamedTuple):
    """What an undamaged checkpoint holds."""

    arrays: dict[str, bytes]
    metadata: dict[str, Any]


class Interrupted(NamedTuple):
    """A run that is not finished."""

    folder: Path
    like: Any
    good: dict[int, Good]


@cache
def subject(kind: str) -> Interrupted:
    """The run of this kind whose copies are damaged."""
    folder = interrupted(kind)
    checkpoints = Checkpoints(folder / "checkpoints")
    like = compare.like(folder)
    good = {iteration: _content(checkpoints.restore(iteration, like)) for iteration in checkpoints.iterations()}
    checkpoints.close()
    if len(good) != 3:
        raise RuntimeError(f"{folder}: three checkpoints were wanted, not {sorted(good)}")
    return Interrupted(folder, like, good)


def _content(restored: tuple[Any, Any]) -> Good:
    state, metadata = restored
    return Good(compare.as_bytes(state), compare.as_plain(metadata))


def damage_checkpoints(count: int, seed: int, folder: Path, *, to_the_end: int = 5) -> Outcome:
    """Damages copies of a run ``count`` times and opens each; ``to_the_end`` more go through the command line."""
    rng, outcome = random.Random(f"damage {seed}"), Outcome()
    for number in range(count):
        run = folder / f"{number}"
        kind = KINDS[number // len(VANDALS) % len(KINDS)]
        name, must_notice, vandalised = _damaged_copy(rng, kind, run, list(VANDALS)[number % len(VANDALS)])
        what, wrong = judge(kind, run, must_notice, vandalised)
        outcome.counts[what] += 1
        outcome.require(not wrong, f"damage {number} (seed {seed}) of {kind}, {name}: {wrong}")
        shutil.rmtree(run)
    for number in range(to_the_end):
        run = folder / f"end-{number}"
        kind = KINDS[number % len(KINDS)]
        name, must_notice, _ = _damaged_copy(rng, kind, run, rng.choice(list(VANDALS)))
        outcome.counts["through the command line"] += 1
        linked = any(path.is_symlink() for path in run.rglob("*"))  # nothing is written in such a folder
        wrong = _resumed(kind, run, refused=linked or all(must_notice))
        outcome.require(not wrong, f"damage to the end {number} (seed {seed}) of {kind}, {name}: {wrong}")
    return outcome


def _damaged_copy(rng: random.Random, kind: str, run: Path, first: str) -> tuple[str, list[bool], list[int]]:
    """Copies the run and damages its newest checkpoint, or each; says how, and whether each must be noticed."""
    shutil.copytree(subject(kind).folder, run)
    iterations = sorted(subject(kind).good, reverse=True)
    vandalised = iterations if rng.random() < ALL_DAMAGED_SHARE else iterations[:1]
    names, must_notice = [], []
    for iteration in vandalised:
        vandal = first if iteration == iterations[0] else rng.choice(list(VANDALS))
        names.append(f"{vandal} in {iteration}")
        must_notice.append(VANDALS[vandal](rng, run / "checkpoints" / str(iteration)))
    must_notice += [False] * (len(iterations) - len(vandalised))
    return ", ".join(names), must_notice, iterations


def judge(kind: str, run: Path, must_notice: list[bool], iterations: list[int]) -> tuple[str, str]:
    """Opens a run whose checkpoints of ``iterations`` (newest first) are damaged where ``must_notice`` says so.

    Returns:
      What happened, and what is wrong with it, which is empty where nothing is.
    """
    expected = next((i for i, damaged in zip(iterations, must_notice, strict=True) if not damaged), None)
    checkpoints, told = Checkpoints(run / "checkpoints"), io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            restored = checkpoints.newest_whole(subject(kind).like)
    except UserError as error:
        one_line = len(str(error).splitlines()) == 1
        return "refused", "" if expected is None and one_line else f"WRONG: {expected} is whole, but refused: {error}"
    except Exception as error:  # whatever else it is, it is a failure to be counted with its damage
        return "WRONG", f"WRONG: {type(error).__name__}: {error}"
    finally:
        checkpoints.close()
    if restored is None:
        return "WRONG", "WRONG: it was taken for a run without checkpoints"
    if expected is None:
        return "WRONG", "WRONG: all are damaged, but one was loaded"
    if wrong := _differs(_content(restored), subject(kind).good[expected]):
        return "WRONG", f"WRONG: not what was saved as {expected}: {wrong}"
    passed = iterations[: iterations.index(expected)]
    aside = [i for i in passed if not (run / "checkpoints" / f"{i}.damaged").is_dir()]
    lines = told.getvalue().splitlines()
    unnamed = [i for i in passed if sum(bool(re.search(rf"checkpoints/{i}\b", line)) for line in lines) != 1]
    wrong = f"not set aside: {aside}; not named once on stderr: {unnamed}" if aside or unnamed else ""
    return ("fallback" if passed else "loaded and equal"), wrong


def _differs(ours: Good, theirs: Good) -> str:
    names = theirs.arrays.keys() | ours.arrays.keys()
    arrays = sorted(name for name in names if ours.arrays.get(name) != theirs.arrays.get(name))
    return ", ".join(arrays) or ("" if ours.metadata == theirs.metadata else "metadata")


def _resumed(kind: str, run: Path, *, refused: bool) -> str:
    """Resumes through the command line; what is wrong, empty where nothing is."""
    ended = finish(run)
    if refused:
        again = finish(run)  # what was set aside must not be forgotten: this is no run without checkpoints
        wrong = _not_refused(ended) + [f"the second time: {what}" for what in _not_refused(again)]
    elif ended.code:
        wrong = [f"exit code {ended.code}: {ended.stderr}"]
    else:
        wrong = compare.differences(kind, run)
    return "; ".join(wrong[:4])


def _not_refused(ended: End) -> list[str]:
    """What is wrong with the end of a run that has no whole checkpoint; the last line is the refusal."""
    told = ended.stderr.splitlines(keepends=True)
    return refusal(ended._replace(stderr="".join(told[-1:]))) + [x for x in told[:-1] if not x.startswith("jaxpg: ")]
