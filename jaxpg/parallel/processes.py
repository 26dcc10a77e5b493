"""Several processes on one run, through JAX's own distributed runtime, and their end when one of them dies.

JAX notices a dead process by itself and aborts the others, without saying which one it was. So each process tells the
others every few seconds, through the same runtime, that it is there, and says who is missing before JAX would.
"""

import ctypes
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
from jax._src import distributed  # the runtime's key-value store has no public name (JAX 0.10 to 0.12)

from jaxpg.core.errors import FaultError, UserError, first_line
from jaxpg.machine.console import flush, say
from jaxpg.machine.signals import Interrupted
from jaxpg.machine.waiting import said_while_waiting
from jaxpg.machine.xla import local_devices
from jaxpg.parallel.team import Team

SIGNS_MISSED = 4
"""In a row, after which a process is gone where something else already tells that one is."""
SECONDS_JAX_WAITS_LONGER = 3600
"""Than this module, which ends the wait with a sentence; JAX would abort the process."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """The processes and devices that work on a run together. A resumed run may have others."""

    coordinator_address: str = ""
    """HOST:PORT at which process 0 can be reached; the same in all processes."""
    num_processes: int = 0
    """How many processes there are."""
    process_id: int = -1
    """Number of this process, from 0."""
    auto: bool = False
    """Whether JAX finds the three above by itself: under Slurm, Open MPI, and on Cloud TPU and its Kubernetes."""
    timeout_seconds: float = 30.0
    """Seconds without a sign of a process after which the others end."""
    start_timeout_seconds: float = 300.0
    """Seconds that the first process waits for the last one at the start."""
    devices: int = 0
    """Devices of this process that are used; 0 for all."""


def check_distributed(config: DistributedConfig) -> None:
    """Raises UserError where the flags contradict each other."""
    named = bool(config.coordinator_address), config.num_processes != 0, config.process_id != -1
    if config.auto and any(named):
        raise UserError("--distributed.auto: finds the address and the numbers by itself; leave the other flags out")
    if any(named) and not all(named):
        raise UserError(
            "--distributed.coordinator-address, --distributed.num-processes and --distributed.process-id go together"
        )
    if any(named):
        host, _, port = config.coordinator_address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UserError(f"--distributed.coordinator-address: {config.coordinator_address!r} is not HOST:PORT")
        if config.num_processes < 1:
            raise UserError(f"--distributed.num-processes: {config.num_processes} is less than 1")
        if not 0 <= config.process_id < config.num_processes:
            raise UserError(
                f"--distributed.process-id: {config.process_id} is not one of 0 to {config.num_processes - 1}"
            )
    if not 5 <= config.timeout_seconds <= 3600:
        raise UserError(f"--distributed.timeout-seconds: {config.timeout_seconds:g} is not between 5 and 3600")
    if not config.start_timeout_seconds >= 1:
        raise UserError(f"--distributed.start-timeout-seconds: {config.start_timeout_seconds:g} is less than 1")
    if config.devices < 0:
        raise UserError(f"--distributed.devices: {config.devices} is less than 0")


@contextmanager
def joined_team(config: DistributedConfig) -> Iterator[Team]:
    """Joins the other processes, where there are any, and watches them; a team of one process otherwise.

    Where another process dies, this one ends with exit code 1 and a sentence on stderr, whatever it was doing. The
    first call that uses JAX's devices must come after it.

    Raises:
      UserError: the flags contradict each other, or the other processes cannot be reached.
    """
    check_distributed(config)
    if not config.coordinator_address and not config.auto:
        yield Team.of(_some(local_devices(), config.devices))
        return
    _initialize(config)
    process, num_processes = jax.process_index(), jax.process_count()
    presence = Presence(process, num_processes, config.timeout_seconds)
    _say_who_is_gone_when_jax_aborts(presence)
    try:
        own = [[device for device in jax.devices() if device.process_index == i] for i in range(num_processes)]
        numbers = presence.exchange("devices", str(config.devices or len(own[process])))
        if len(set(numbers)) > 1:
            raise UserError(f"--distributed.devices: the processes use {', '.join(numbers)}; give all the same number")
        team = Team.of([device for devices in own for device in _some(devices, config.devices)], process, num_processes)
        with _stdout_closed():
            team.gather("here")
        yield team
        presence.exchange("end", "")  # process 0 may have more to do than the others
    except UserError:  # to which all processes come
        raise
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        presence.end("interrupted", code=128 + number)
    except FaultError as error:
        presence.find_missing()  # whose end may be the cause
        presence.end(str(error))
    except Exception as error:
        if not presence.find_missing():
            say("".join(traceback.format_exception(error)).rstrip(), error=True)
        presence.end(f"it failed: {error}")
    finally:
        presence.close()
        jax.distributed.shutdown()


def _initialize(config: DistributedConfig) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from the training loop
    jax.config.update("jax_check_proxy_envs", False)
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  # gRPC alone goes past http_proxy, which other libraries keep
    host = config.coordinator_address.rpartition(":")[0]
    connection = _Connection(
        coordinator_address=config.coordinator_address or None,
        num_processes=config.num_processes or None,
        process_id=config.process_id if config.process_id >= 0 else None,
        cluster_detection_method=None if config.auto else "deactivate",
        coordinator_bind_address=config.coordinator_address if host in LOOPBACK else None,
        initialization_timeout=int(config.start_timeout_seconds) + SECONDS_JAX_WAITS_LONGER,
        heartbeat_timeout_seconds=int(2 * config.timeout_seconds) + 10,  # later than Presence
        shutdown_timeout_seconds=int(config.timeout_seconds),
    )
    where = "--distributed.auto" if config.auto else "--distributed.coordinator-address"
    with said_while_waiting(f"waiting for {_others(config)}"):
        connection.wait(config.start_timeout_seconds)
    if connection.is_alive():
        say(f"jaxpg: {where}: waited {config.start_timeout_seconds:g} s in vain for {_others(config)}", error=True)
        os._exit(2)  # because a thread stands in JAX, which would print pages at the ordinary end
    error = connection.error
    if error and config.auto:
        raise UserError(f"--distributed.auto: JAX finds no cluster here: {error}") from error
    if error:
        raise UserError(
            f"--distributed.coordinator-address: {config.coordinator_address}: the {config.num_processes} processes do "
            f"not find each other: {first_line(error)}"
        ) from error


class _Connection(threading.Thread):
    """JAX's own wait for the other processes, which no signal interrupts and which aborts the process at its end.

    Args:
      arguments: of ``jax.distributed.initialize``.
    """

    def __init__(self, **arguments: Any):
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._arguments = arguments

    def run(self) -> None:
        try:
            jax.distributed.initialize(**self._arguments)
        except (RuntimeError, ValueError) as error:
            self.error = error

    def wait(self, seconds: float) -> None:
        """Until there is a connection or an error, but not longer; a signal interrupts it."""
        self.start()
        until = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < until:
            self.join(0.1)


def _others(config: DistributedConfig) -> str:
    """Who is waited for, as far as this process knows."""
    if config.auto:
        return "the other processes"
    if config.process_id:
        return f"process 0 at {config.coordinator_address} and the others of {config.num_processes}"
    last = config.num_processes - 1
    return f"{'process 1' if last == 1 else f'processes 1 to {last}'} to come to {config.coordinator_address}"


def _some(devices: Sequence[jax.Device], number: int) -> list[jax.Device]:
    """The first of a process's devices; all where ``number`` is 0."""
    if number > len(devices):
        raise UserError(f"--distributed.devices: {number} are asked for, but there are {len(devices)}")
    return list(devices[: number or len(devices)])


@contextmanager
def _stdout_closed() -> Iterator[None]:
    """For the first exchange, at which gloo writes to stdout how many it is connected to."""
    flush()
    stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)


class Presence:
    """Tells the other processes every second or so that this one is there, and ends it when one of them is not.

    The thread that talks may stand in a call that is never answered, so that another one looks at the time.

    Args:
      process: this one's number.
      num_processes: of all.
      timeout_seconds: without a sign of a process, after which this one ends.
    """

    def __init__(self, process: int, num_processes: int, timeout_seconds: float):
        self._process, self._num_processes, self._timeout_seconds = process, num_processes, timeout_seconds
        self._client: Any = distributed.global_state.client
        self._seconds_between_signs = min(1.0, timeout_seconds / 10)
        self._name = f"process {process} (process id {os.getpid()} on {socket.gethostname()})"
        self._answered_at = time.monotonic()  # by process 0
        self._heard_at = dict.fromkeys(range(num_processes), time.monotonic())
        self._names = {i: f"process {i}" for i in range(num_processes)}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._talk, self._look)]
        for thread in self._threads:
            thread.start()

    def exchange(self, topic: str, word: str) -> list[str]:
        """What every process says on a topic, once all have; as slow as the slowest."""
        self._client.key_value_set(f"jaxpg/{topic}/{self._process}", word)
        while len(words := self._client.key_value_dir_get(f"jaxpg/{topic}/")) < self._num_processes:
            time.sleep(0.05)
        return [said for _, said in sorted(words, key=lambda pair: int(pair[0].rpartition("/")[2]))]

    def find_missing(self) -> list[str]:
        """Who has died just now, which takes some seconds to show; nobody where all are there."""
        until = time.monotonic() + 2 * SIGNS_MISSED * self._seconds_between_signs
        while not (missing := self._missing(SIGNS_MISSED * self._seconds_between_signs)) and time.monotonic() < until:
            time.sleep(0.1)
        return missing

    def end(self, reason: str, code: int = 1) -> NoReturn:
        """Ends this process without waiting for the others, as JAX's own way out would; says why, or who is gone."""
        missing = self._missing(SIGNS_MISSED * self._seconds_between_signs)
        if missing:
            reason = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} gone"
        sentence = f"jaxpg: process {self._process} ends: {reason}; --resume goes on with the newest checkpoint"
        flush()
        say(sentence, error=True)
        if self._process == 0:
            time.sleep(2 * self._seconds_between_signs)  # with it ends what tells the others who is gone
        os._exit(code)

    def _missing(self, seconds: float) -> list[str]:
        """Processes without a sign for so long; process 0 alone where it is silent, because all signs go there."""
        now = time.monotonic()
        if now - self._answered_at > seconds:
            return [self._names[0]]
        return [self._names[i] for i, heard_at in self._heard_at.items() if now - heard_at > seconds]

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(self._seconds_between_signs)

    def _talk(self) -> None:
        signs: dict[int, str] = {}
        count = 0
        while not self._ended.wait(self._seconds_between_signs):
            count += 1
            try:
                self._client.key_value_set(f"jaxpg/sign/{self._process}", f"{count} {self._name}", allow_overwrite=True)
                answer = self._client.key_value_dir_get("jaxpg/sign/")
            except jax.errors.JaxRuntimeError:  # process 0 is gone: _look notices
                continue
            self._answered_at = time.monotonic()
            for key, sign in answer:
                process = int(key.rpartition("/")[2])
                if signs.get(process) != sign:
                    signs[process], self._heard_at[process] = sign, time.monotonic()
                    self._names[process] = sign.partition(" ")[2]

    def _look(self) -> None:
        while not self._ended.wait(self._seconds_between_signs / 2):
            if self._missing(self._timeout_seconds):
                self.end("the others are gone")


def _say_who_is_gone_when_jax_aborts(presence: Presence) -> None:
    """JAX aborts the process when it notices a dead one, at once where that is process 0, and does not say who it was.

    abort() reaches no handler of Python's, but one of C's, in a thread of JAX's.
    """

    def aborted(number: int) -> None:
        presence.find_missing()
        presence.end("JAX has aborted it, as said above")

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _HANDLERS.append(handler)
    signal_of_c = ctypes.CDLL(None).signal
    signal_of_c.restype = ctypes.c_void_p
    signal_of_c(signal.SIGABRT, handler)


_HANDLERS: list[Any] = []
"""They must live as long as the process."""
