"""``python -m jaxpg.launch``: several processes on this machine that train one run together.

It imports the standard library and the errors alone: JAX would cost seconds and memory, and its threads would make
forking unsafe.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from jaxpg.core.errors import UserError, nearest
from jaxpg.machine.command import run_command
from jaxpg.machine.signals import SIGNALS
from jaxpg.parallel.children import Children, free_port

TRAIN = (sys.executable, "-m", "jaxpg.train")
MAX_PROCESSES = 256
"""Each is a Python with JAX, hundreds of megabytes."""
OWN = ("--processes", "--timeout-seconds")
GIVEN = ("auto", "coordinator-address", "num-processes", "process-id")
"""Flags under ``--distributed`` that are for the launcher to give."""


@dataclass(frozen=True)
class LaunchArguments:
    """How many processes, and the arguments of each."""

    processes: int
    timeout_seconds: float
    train: tuple[str, ...]


def launch(argv: Sequence[str], command: Sequence[str] = TRAIN) -> int:
    """Runs the command and returns its exit code.

    It is 0 where every process ended with 0, else that of the first process that failed, and 128 plus the number of the
    signal where one ended it.

    Args:
      argv: what follows ``python -m jaxpg.launch``.
      command: what every process runs, before its arguments.
    """
    arguments = parse_launch(argv)
    address = f"127.0.0.1:{free_port()}"
    children = Children(arguments.timeout_seconds)
    forwarded = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]  # unlike nohup
    handlers = {number: signal.signal(number, children.forward) for number in forwarded}
    try:
        for index, cores in enumerate(core_shares(_cores(), arguments.processes)):
            flags = {"coordinator-address": address, "num-processes": arguments.processes, "process-id": index}
            given = [word for name, value in flags.items() for word in (f"--distributed.{name}", str(value))]
            children.start(index, [*command, *arguments.train, *given], cores)
        return children.watch()
    finally:
        children.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def parse_launch(argv: Sequence[str]) -> LaunchArguments:
    """Reads the command line: the launcher's flags, then, after ``--`` or after the last of them, the training's.

    Raises:
      UserError: a flag or a value is wrong.
    """
    own, train = _split(argv)
    parsed, unknown = _parser().parse_known_args(own)
    if unknown and unknown[0].startswith("-"):
        raise UserError(f"unknown flag {unknown[0]} before the --{nearest(unknown[0], OWN)}")
    if unknown:
        raise UserError(f"unexpected argument {unknown[0]!r} before the --; the recipe and its flags come after it")
    if parsed.processes is None:
        raise UserError("how many processes? give --processes K first, then the recipe and its flags")
    if not 1 <= parsed.processes <= MAX_PROCESSES:
        raise UserError(f"--processes: input should be from 1 to {MAX_PROCESSES}, not {parsed.processes}")
    if not (math.isfinite(parsed.timeout_seconds) and parsed.timeout_seconds >= 0):
        raise UserError(f"--timeout-seconds: input should be a number from 0 on, not {parsed.timeout_seconds:g}")
    for word in train:
        flag = word.split("=")[0].replace("_", "-").replace(".no-", ".")
        if flag in [f"--distributed.{name}" for name in GIVEN]:
            raise UserError(f"{word}: the launcher gives this flag to each process; leave it out")
    return LaunchArguments(parsed.processes, parsed.timeout_seconds, tuple(train))


def core_shares(cores: Sequence[int], processes: int) -> list[list[int]]:
    """Divides cores into contiguous shares that differ by one core at most; where they are too few, each gets all.

    >>> core_shares([0, 1, 2, 3, 8], 2)
    [[0, 1], [2, 3, 8]]
    >>> core_shares([0, 1], 3)
    [[0, 1], [0, 1], [0, 1]]
    """
    if len(cores) < processes:
        return [list(cores)] * processes
    edges = [len(cores) * index // processes for index in range(processes + 1)]
    return [list(cores[edges[index] : edges[index + 1]]) for index in range(processes)]


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's own arguments and the training's; argparse itself would take the latter's flags for unknown."""
    words = list(argv)
    if "--" in words:
        edge = words.index("--")
        return words[:edge], words[edge + 1 :]
    edge = 0
    while edge < len(words) and words[edge].split("=")[0] in (*OWN, "--help", "-h"):
        edge += 2 if words[edge] in OWN else 1
    return words[:edge], words[edge:]


class _Parser(argparse.ArgumentParser):
    """Whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m jaxpg.launch",
        usage="%(prog)s --processes K [--timeout-seconds S] [--] [RECIPE.yaml] [flags of python -m jaxpg.train]",
        description="Trains one run with several processes on this machine. Each is python -m jaxpg.train with the "
        "arguments given; what it says is passed on line by line with its number in front. The cores that this "
        "command may use are divided among the processes, to each its contiguous share; where they are fewer than "
        "the processes, or the system cannot do it, every process may use all of them. SIGTERM, SIGHUP and Ctrl-C are "
        "passed on to every process, so that the run is saved. The exit code is 0, or that of the first process that "
        "failed.",
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=int, metavar="K", help=f"how many processes, 1 to {MAX_PROCESSES}")
    parser.add_argument(
        "--timeout-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="after one process failed, the others end by themselves; what still runs after so many seconds gets "
        "SIGTERM, and after as many again SIGKILL (default: %(default)g)",
    )
    return parser


def main(argv: Sequence[str] | None = None, command: Sequence[str] = TRAIN) -> None:
    """The command; ends the process."""
    run_command(lambda words: launch(words, command), argv, hears_signals=False)


if __name__ == "__main__":
    main()
