"""Joins several processes to one run through JAX's distributed runtime, and ends all of them when one dies.

JAX itself notices a dead process and aborts the others, but does not say which process died. Therefore each process
sends a sign of life to the others about once a second, through the same runtime. When the signs of a process stop, the
others name the missing process and end before JAX aborts them.
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
"""Missed signs in a row after which a process counts as gone, if an error already suggests that some process is."""
SECONDS_JAX_WAITS_LONGER = 3600
"""How much longer JAX waits than this module. This module ends with a sentence, but JAX would abort the process."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """The processes and devices that work on a run together. A resumed run may use different ones."""

    coordinator_address: str = ""
    """HOST:PORT at which the other processes reach process 0; the same in all processes."""
    num_processes: int = 0
    """Number of processes."""
    process_id: int = -1
    """Number of this process, counted from 0."""
    auto: bool = False
    """Whether JAX finds the three settings above by itself: under Slurm, Open MPI, Cloud TPU or its Kubernetes."""
    timeout_seconds: float = 30.0
    """Seconds without a sign of life from a process after which the other processes end."""
    start_timeout_seconds: float = 300.0
    """Seconds that the processes wait for each other at the start."""
    devices: int = 0
    """Number of devices that this process uses; 0 means all."""


def check_distributed(config: DistributedConfig) -> None:
    """Raises UserError if the flags contradict each other or a value is out of range."""
    named = bool(config.coordinator_address), config.num_processes != 0, config.process_id != -1
    if config.auto and any(named):
        raise UserError("--distributed.auto: JAX finds the address and the numbers; leave the other flags out")
    if any(named) and not all(named):
        raise UserError(
            "--distributed.coordinator-address, --distributed.num-processes and --distributed.process-id go together; "
            "give all three"
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
    """Joins the other processes of the run and watches them. Without flags, the team is this process alone.

    If another process dies, this process ends with exit code 1 and a sentence on stderr, whatever it is doing. Nothing
    may use JAX's devices before this call.

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
        presence.exchange("end", "")  # wait for process 0, which may have more to do
    except UserError:  # every process raises the same error
        raise
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        presence.end("interrupted", code=128 + number)
    except FaultError as error:
        presence.find_missing()  # a process that died may be the cause
        presence.end(str(error))
    except Exception as error:
        if not presence.find_missing():
            say("".join(traceback.format_exception(error)).rstrip(), error=True)
        presence.end(f"it failed: {error}")
    finally:
        presence.close()
        jax.distributed.shutdown()


def _initialize(config: DistributedConfig) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # it would catch the training loop's SIGTERM
    jax.config.update("jax_check_proxy_envs", False)
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  # only gRPC bypasses http_proxy; other libraries keep using it
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
        waited = f"{config.start_timeout_seconds:g} s of waiting for {_others(config)}"
        say(f"jaxpg: {where}: gave up after {waited}", error=True)
        os._exit(2)  # a thread is still in JAX, which would print pages at a normal exit
    error = connection.error
    if error and config.auto:
        raise UserError(f"--distributed.auto: JAX finds no cluster here: {error}") from error
    if error:
        raise UserError(
            f"--distributed.coordinator-address: {config.coordinator_address}: the {config.num_processes} processes do "
            f"not find each other: {first_line(error)}"
        ) from error


class _Connection(threading.Thread):
    """Thread in which JAX waits for the other processes.

    No signal can interrupt JAX's wait, and JAX aborts the process when the wait times out.

    Args:
      arguments: the arguments of ``jax.distributed.initialize``.
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
        """Waits for a connection or an error, at most ``seconds``. A signal can interrupt this wait."""
        self.start()
        until = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < until:
            self.join(0.1)


def _others(config: DistributedConfig) -> str:
    """The processes that this process waits for, in words."""
    if config.auto:
        return "the other processes"
    if config.process_id:
        return f"process 0 at {config.coordinator_address} and the others of {config.num_processes}"
    last = config.num_processes - 1
    return f"{'process 1' if last == 1 else f'processes 1 to {last}'} to come to {config.coordinator_address}"


def _some(devices: Sequence[jax.Device], number: int) -> list[jax.Device]:
    """The first ``number`` of a process's devices, or all of them if ``number`` is 0."""
    if number > len(devices):
        raise UserError(f"--distributed.devices: {number} are asked for, but there are only {len(devices)}")
    return list(devices[: number or len(devices)])


@contextmanager
def _stdout_closed() -> Iterator[None]:
    """Discards stdout during the first exchange, in which gloo prints its number of connections."""
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
    """Sends a sign of life about once a second, and ends this process when another process sends no more signs.

    The talking thread may be stuck in a call that is never answered, so a second thread watches the time.

    Args:
      process: number of this process.
      num_processes: number of all processes.
      timeout_seconds: seconds without a sign of another process after which this process ends.
    """

    def __init__(self, process: int, num_processes: int, timeout_seconds: float):
        self._process, self._num_processes, self._timeout_seconds = process, num_processes, timeout_seconds
        self._client: Any = distributed.global_state.client
        self._seconds_between_signs = min(1.0, timeout_seconds / 10)
        self._name = f"process {process} (process id {os.getpid()} on {socket.gethostname()})"
        self._answered_at = time.monotonic()  # when process 0 last answered
        self._heard_at = dict.fromkeys(range(num_processes), time.monotonic())
        self._names = {i: f"process {i}" for i in range(num_processes)}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._talk, self._look)]
        for thread in self._threads:
            thread.start()

    def exchange(self, topic: str, word: str) -> list[str]:
        """Waits until every process has said a word on a topic, and returns the words in the order of the processes."""
        self._client.key_value_set(f"jaxpg/{topic}/{self._process}", word)
        while len(words := self._client.key_value_dir_get(f"jaxpg/{topic}/")) < self._num_processes:
            time.sleep(0.05)
        return [said for _, said in sorted(words, key=lambda pair: int(pair[0].rpartition("/")[2]))]

    def find_missing(self) -> list[str]:
        """Names of the processes that have died, or an empty list. The search takes up to some seconds."""
        until = time.monotonic() + 2 * SIGNS_MISSED * self._seconds_between_signs
        while not (missing := self._missing(SIGNS_MISSED * self._seconds_between_signs)) and time.monotonic() < until:
            time.sleep(0.1)
        return missing

    def end(self, reason: str, code: int = 1) -> NoReturn:
        """Ends this process and says why, or which processes are gone. JAX's own exit would wait for the others."""
        missing = self._missing(SIGNS_MISSED * self._seconds_between_signs)
        if missing:
            reason = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} gone"
        sentence = f"jaxpg: process {self._process} ends: {reason}; --resume goes on with the newest checkpoint"
        flush()
        say(sentence, error=True)
        if self._process == 0:
            # process 0 keeps the signs, by which the others see who is gone
            time.sleep(2 * self._seconds_between_signs)
        os._exit(code)

    def _missing(self, seconds: float) -> list[str]:
        """Names of the processes without a sign for ``seconds``.

        All signs pass through process 0. If process 0 does not answer another one, it is the only name, and nobody else
        is silent for longer than at its last answer. Process 0 itself knows that it lives, however long its own answer
        takes on a busy machine.
        """
        if self._process != 0 and time.monotonic() - self._answered_at > seconds:
            return [self._names[0]]
        return [self._names[i] for i, heard_at in self._heard_at.items() if self._answered_at - heard_at > seconds]

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
            except jax.errors.JaxRuntimeError:  # process 0 is gone; _look will notice
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
    """Names the dead process when JAX aborts this one.

    JAX aborts this process when it notices a dead process (at once if process 0 is dead), but does not say which one.
    ``abort()`` never reaches a Python signal handler, so this function installs a C handler, which runs in a thread of
    JAX.
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
"""C handlers, which must live as long as the process."""
