"""Gymnasium lanes in processes of their own, for environments that take long (``env.workers``)."""

import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.errors import FaultError
from jaxpg.core.user_modules import imported
from jaxpg.envs import gymnasium_group
from jaxpg.envs.gymnasium_group import DONE, FAILED, RESET, STEP, Answers, Making, Memory

SECONDS_TO_END = 2.0
"""How long a process may take to end by itself."""
PROGRAM = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "runpy.run_path(sys.argv.pop(1), None, '__main__')"
)
"""Runs a file with the module search path of the trainer. Importing the file as a module would import JAX."""


class _Worker(NamedTuple):
    lanes: tuple[int, int]  # the first lane and the lane after the last
    process: subprocess.Popen[bytes]
    connection: socket.socket


class Workers:
    """Lanes in several processes, which answer at the same time. The processes start at the first ``reset``.

    The processes get numbers, and texts of JSON, and answer with numbers and sentences: nothing is pickled.

    Args:
      making: what the environments are made from.
      num_lanes: N.
      num_workers: how many processes share the lanes.
      shape: shape of one observation.
      dtype: dtype of an observation.
    """

    def __init__(self, making: Making, num_lanes: int, num_workers: int, shape: Sequence[int], dtype: np.dtype[Any]):
        self._game = making.game
        self._about: dict[str, Any] = {
            **{"making": making, "num_lanes": num_lanes, "shape": list(shape), "dtype": dtype.str},
            "imports": imported(),
        }
        ends = [num_lanes * (i + 1) // num_workers for i in range(num_workers)]
        self._lanes = list(zip([0, *ends], ends, strict=False))
        self._file = os.memfd_create("jaxpg-lanes")
        self._close_file = weakref.finalize(self, os.close, self._file)
        size = Memory.num_bytes(num_lanes, shape, dtype)
        os.ftruncate(self._file, size)
        self._memory = Memory(self._file, num_lanes, shape, dtype)
        self._workers: list[_Worker] = []
        self._waits: list[_Worker] = []  # the processes whose answer is due

    def reset(self, seeds: np.ndarray) -> None:
        """Asks every lane to begin an episode with its seed (``int[N]``)."""
        if self._waits:
            self.close()  # an answer that nobody has waited for would be taken for that to this call
        if not self._workers:
            self._workers = [self._start(lanes) for lanes in self._lanes]
        self._ask(RESET, seeds)

    def send(self, actions: np.ndarray) -> None:
        """Asks every lane to play an action (``i64[N]``)."""
        self._ask(STEP, actions)

    def recv(self) -> Answers:
        """Waits for all lanes. The answers are valid until the next call.

        Raises:
          FaultError: an environment failed, or a process ended.
        """
        while self._waits:
            self._wait(self._waits.pop())
        return self._memory.answers

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            try:
                worker.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers, self._waits = [], []

    def _start(self, lanes: tuple[int, int]) -> _Worker:
        ours, theirs = socket.socketpair()
        arguments = [gymnasium_group.__file__, *map(str, (theirs.fileno(), self._file, os.getpid()))]
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, json.dumps(sys.path), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._file),
                env={**os.environ, "JAX_PLATFORMS": "cpu"},  # a user's module may import JAX: the trainer needs the GPU
                start_new_session=True,  # Ctrl-C is the trainer's
            )
        worker = _Worker(lanes, process, ours)
        with suppress(OSError):  # a process that has ended is noticed by recv
            ours.sendall(gymnasium_group.with_length(json.dumps({**self._about, "lanes": lanes})))
        return worker

    def _ask(self, command: bytes, numbers: np.ndarray) -> None:
        self._memory.numbers[:] = numbers
        for worker in self._workers:
            with suppress(OSError):
                worker.connection.send(command)
        self._waits = self._workers[::-1]

    def _wait(self, worker: _Worker) -> None:
        said = gymnasium_group.receive(worker.connection, 1)
        if said == DONE:
            return
        if said == FAILED:
            sentence = gymnasium_group.receive_text(worker.connection)
            raise FaultError(sentence)
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(SECONDS_TO_END)
        code, (first, end) = worker.process.returncode, worker.lanes
        how = (
            "does not answer"
            if code is None
            else f"ended by signal {-code}"
            if code < 0
            else f"ended with exit code {code}"
        )
        raise FaultError(f"the process of {self._game}'s lanes {first} to {end - 1} {how}")
