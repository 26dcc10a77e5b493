"""``python -m jaxpg.launch``: trains one run with several processes on this machine.

This module imports neither JAX nor NumPy. JAX would cost seconds and memory, and its threads would make forking unsafe.
"""

import argparse
import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from jaxpg.core.errors import UserError, nearest
from jaxpg.machine.command import module_command, run_command
from jaxpg.machine.cores import core_shares, own_cores
from jaxpg.machine.gpus import shares_of_gpus
from jaxpg.machine.signals import SIGNALS
from jaxpg.parallel.children import Children, free_port

TRAIN = tuple(module_command("jaxpg.train"))
MAX_PROCESSES = 256
"""Each process loads Python and JAX, which takes hundreds of megabytes."""
OWN = ("--processes", "--timeout-seconds")
GIVEN = ("auto", "coordinator-address", "num-processes", "process-id")
"""Flags under ``--distributed`` that only the launcher may set."""


@dataclass(frozen=True)
class LaunchArguments:
    """The launcher's own arguments, and the arguments ``train`` that every process gets."""

    processes: int
    timeout_seconds: float
    train: tuple[str, ...]


def launch(argv: Sequence[str], command: Sequence[str] = TRAIN) -> int:
    """Runs the command and returns its exit code.

    The exit code is 0 if every process ended with 0. Otherwise it is the exit code of the first process that failed. A
    process that a signal ended has the exit code 128 plus the signal's number.

    Args:
      argv: the arguments after ``python -m jaxpg.launch``.
      command: the command that every process runs. The arguments of the process are appended.
    """
    arguments = parse_launch(argv)
    variables = shares_of_gpus("--processes", arguments.processes, of_one_run=True)
    address = f"127.0.0.1:{free_port()}"
    children = Children(arguments.timeout_seconds)
    forwarded = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]  # not under nohup
    handlers = {number: signal.signal(number, children.forward) for number in forwarded}
    try:
        for index, cores in enumerate(core_shares(own_cores(), arguments.processes)):
            flags = {"coordinator-address": address, "num-processes": arguments.processes, "process-id": index}
            given = [word for name, value in flags.items() for word in (f"--distributed.{name}", str(value))]
            children.start(index, [*command, *arguments.train, *given], cores, variables[index])
        return children.watch()
    finally:
        children.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def parse_launch(argv: Sequence[str]) -> LaunchArguments:
    """Reads the command line: first the launcher's flags, then an optional ``--``, then the training's arguments.

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


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits the words into the launcher's arguments and the training's, whose flags argparse does not know."""
    words = list(argv)
    if "--" in words:
        edge = words.index("--")
        return words[:edge], words[edge + 1 :]
    edge = 0
    while edge < len(words) and words[edge].split("=")[0] in (*OWN, "--help", "-h"):
        edge += 2 if words[edge] in OWN else 1
    return words[:edge], words[edge:]


class _Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m jaxpg.launch",
        usage="%(prog)s --processes K [--timeout-seconds S] [--] [RECIPE.yaml] [flags of python -m jaxpg.train]",
        description="Trains one run with several processes on this machine. Each process runs python -m jaxpg.train "
        "with the given arguments; its output is passed on line by line with the number of the process in front. The "
        "cores that this command may use are divided into contiguous shares, one per process. If there are fewer cores "
        "than processes, or the system cannot bind processes to cores, every process may use all cores. The GPUs are "
        "divided in the same way, and each process needs one or more. SIGTERM, "
        "SIGHUP and Ctrl-C are passed on to every process, so that the run is saved. The exit code is 0 if every "
        "process succeeds, otherwise that of the first process that failed.",
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=int, metavar="K", help=f"how many processes, 1 to {MAX_PROCESSES}")
    parser.add_argument(
        "--timeout-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="after one process fails, the others end by themselves; a process that still runs after S seconds gets "
        "SIGTERM, and after another S seconds SIGKILL (default: %(default)g)",
    )
    return parser


def main(argv: Sequence[str] | None = None, command: Sequence[str] = TRAIN) -> None:
    """Runs the command and ends the process."""
    run_command(lambda words: launch(words, command), argv, hears_signals=False)


if __name__ == "__main__":
    main()
