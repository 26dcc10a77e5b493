"""``python -m tests.faults``: what was tried how often, as a table in Markdown; exit code 1 on any violation."""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

from jaxpg.machine.console import speaking
from tests.faults.runs import KINDS, Outcome

KILLS_AT_ONCE = 5
"""Kills of one kind of run before the next kind has its turn."""


def main() -> int:
    arguments = _parser().parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="jaxpg-faults-") as temporary, speaking():
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        if arguments.soak:
            from tests.faults.soak import soak

            for line in soak(arguments.soak, folder / "soak"):
                print(line, flush=True)
            return 0
        total, began = Outcome(), time.monotonic()
        for name, part in _parts(arguments, folder):
            outcome = part()
            total.add(outcome)
            said = ", ".join(f"{what} {n}" for what, n in outcome.counts.items())
            print(f"{time.monotonic() - began:6.0f} s  {name}: {said or '-'}", file=sys.stderr, flush=True)
            for violation in outcome.violations:
                print(f"          VIOLATION {violation}", file=sys.stderr, flush=True)
    _report(total)
    return 1 if total.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", "--rounds", type=int, default=0, help="SIGKILLs of real trainings, over all kinds")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of runs that are killed")
    parser.add_argument("--partners", type=int, default=0, help="SIGKILLs of one of four processes of a run")
    parser.add_argument("--damages", type=int, default=0, help="damaged checkpoints")
    parser.add_argument(
        "--signals", type=int, default=0, help="rounds in which every kind gets a signal; 7 for all ways"
    )
    parser.add_argument("--disk", action="store_true", help="full disks and read-only folders")
    parser.add_argument("--others", action="store_true", help="a clock that jumps back, a second trainer")
    parser.add_argument("--recipes", type=int, default=0, help="random recipes and flags")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES", help="only train, and watch the memory")
    return parser


WAYS = [
    *((SIGTERM, 1, False), (SIGTERM, 2, False), (SIGINT, 1, False), (SIGHUP, 1, False), (SIGTERM, 1, True)),
    *((SIGINT, 1, True), (SIGHUP, 1, True)),
]
"""Which signal, how often, and whether at the start."""

Part = tuple[str, Callable[[], Outcome]]


def _parts(arguments: argparse.Namespace, folder: Path) -> Iterator[Part]:
    """What was asked for, in pieces that show progress; what needs JAX is imported when its turn comes."""
    new_folder = (folder / str(number) for number in count())
    if arguments.kills:
        yield from _kills(arguments, new_folder)
    if arguments.partners:
        from tests.faults.partners import KINDS as OF_PARTNERS
        from tests.faults.partners import kill_partners

        for i, kind in enumerate(OF_PARTNERS):
            rounds = len(range(i, arguments.partners, len(OF_PARTNERS)))
            yield f"partners, {kind}", partial(kill_partners, kind, rounds, arguments.seed, next(new_folder))
    if arguments.damages:
        from tests.faults.damage import damage_checkpoints

        yield "damages", partial(damage_checkpoints, arguments.damages, arguments.seed, next(new_folder))
    if arguments.disk:
        from tests.faults.disk import full_disk, read_only

        yield "full disk, freed", partial(full_disk, "reinforce", next(new_folder), freed=True)
        yield "full disk, stays", partial(full_disk, "reinforce", next(new_folder), freed=False)
        yield "read-only", partial(read_only, "reinforce", next(new_folder))
    if arguments.signals:
        yield from _signals(arguments, new_folder)
    if arguments.others:
        from tests.faults.signals import clock_jumps_back, second_trainer

        yield "clock", partial(clock_jumps_back, "reinforce", next(new_folder))
        yield "second trainer", partial(second_trainer, "reinforce", next(new_folder))
    if arguments.recipes:
        yield "recipes", partial(_fuzz, arguments.recipes, arguments.seed)


def _kills(arguments: argparse.Namespace, new_folder: Iterator[Path]) -> Iterator[Part]:
    from tests.faults.kills import kill_at_random

    for number, first in enumerate(range(0, arguments.kills, KILLS_AT_ONCE)):
        kind, kills = arguments.kinds[number % len(arguments.kinds)], min(KILLS_AT_ONCE, arguments.kills - first)
        seed = f"{arguments.seed}.{number}"
        yield f"kills, {kind}", partial(kill_at_random, kind, kills, seed, next(new_folder))


def _signals(arguments: argparse.Namespace, new_folder: Iterator[Path]) -> Iterator[Part]:
    from tests.faults.signals import signalled

    for turn in range(arguments.signals):
        for i, kind in enumerate(arguments.kinds):
            number, times, at_start = WAYS[(i + turn) % len(WAYS)]
            seed = arguments.seed + turn
            part = partial(signalled, kind, number, next(new_folder), seed, times=times, at_start=at_start)
            yield f"signals, {kind}", part


def _fuzz(examples: int, seed: int) -> Outcome:
    from tests.faults.recipes import BrokenError, fuzz

    try:
        counts = fuzz(examples, seed)
    except BrokenError as error:
        return Outcome(violations=[str(error)])
    return Outcome(Counter({f"recipes {what}": counts.get(what, 0) for what in ("accepted", "refused")}))


def _report(total: Outcome) -> None:
    print("| what | times |\n|---|---|")
    for what, times in sorted(total.counts.items()):
        print(f"| {what} | {times} |")
    print(f"| violations | {len(total.violations)} |")
    for violation in total.violations:
        print(f"\nVIOLATION: {violation}")


if __name__ == "__main__":
    sys.exit(main())
