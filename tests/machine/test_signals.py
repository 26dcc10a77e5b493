"""Signals at any moment: noted where there is something to save, the end at once elsewhere."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from jaxpg.machine.command import run_command
from jaxpg.machine.signals import SIGNALS, Interrupted, Stop, signals_heard


@pytest.fixture
def stop():
    stop = Stop()
    yield stop
    stop.restore()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_at_once_where_nothing_is_to_be_saved(stop: Stop, number: int) -> None:
    with pytest.raises(Interrupted) as interrupted:
        signal.raise_signal(number)
    assert interrupted.value.number == number


def test_the_first_signal_is_noted_and_the_second_one_ends_at_once(stop: Stop) -> None:
    stop.note_signals()
    signal.raise_signal(signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)
    assert stop.signal == signal.SIGTERM


def test_a_terminal_that_goes_sends_several_signals_and_the_run_is_saved(stop: Stop) -> None:
    stop.note_signals()
    for _ in range(3):
        signal.raise_signal(signal.SIGHUP)
    assert stop.signal == signal.SIGHUP


def test_what_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = Stop()
    try:
        signal.raise_signal(signal.SIGHUP)
    finally:
        stop.restore()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.signal(signal.SIGHUP, before)


def test_former_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    hook = sys.unraisablehook
    with signals_heard(ends_process=True) as outer, signals_heard() as inner:
        assert inner is outer
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert sys.unraisablehook is hook
    assert signal.set_wakeup_fd(-1) == -1


def test_no_handlers_are_set_in_another_thread() -> None:
    ended = []

    def work() -> None:
        with suppress(SystemExit):
            run_command(lambda words: ended.append(words) or 0, ["a"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [["a"]]


def test_an_exception_that_a_callback_lost_comes_again(stop: Stop) -> None:
    class Callback:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def lose_one_and_wait() -> None:
        Callback()
        time.sleep(10)

    with pytest.raises(Interrupted):
        lose_one_and_wait()


COMMAND = """
import ctypes, os, signal, subprocess, sys, time
from jaxpg.machine.command import run_command
from jaxpg.machine.signals import signals_heard, signals_left_to_the_system

what, number = sys.argv[1], int(sys.argv[2])

def send():
    os.kill(os.getpid(), number)

def command(words):
    with signals_heard() as stop:
        if what.startswith("kept"):
            stop.note_signals()
            stop.keep()
        if what == "compiling":
            stop.note_signals()
        if what == "kept, twice":
            send()
        subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -{number} {os.getpid()}"])
        if what == "swallowed":
            try:
                time.sleep(100)
            except BaseException:
                pass
        if what == "lock":
            with signals_left_to_the_system():
                ctypes.PyDLL(None).sleep(100)  # keeps Python's lock
        if what == "kept":
            while stop.signal is None:
                time.sleep(0.01)
            time.sleep(2)
            print("saved", flush=True)
            return 128 + stop.signal
        ctypes.CDLL(None).sleep(100)  # compiled code, in which no exception is raised; a signal only shortens this
        ctypes.CDLL(None).sleep(100)

run_command(command, [])
"""


@pytest.mark.parametrize(
    ("what", "number", "code", "stdout", "stderr"),
    [
        ("compiled code", signal.SIGHUP, 129, "", "jaxpg: interrupted"),
        ("swallowed", signal.SIGINT, 130, "", "jaxpg: interrupted"),
        ("compiling", signal.SIGTERM, 143, "", "jaxpg: interrupted"),
        ("kept, twice", signal.SIGTERM, 143, "", "jaxpg: interrupted"),
        ("lock", signal.SIGINT, -2, "", ""),
        ("kept", signal.SIGINT, 130, "a second signal ends it at once\nsaved", ""),
    ],
)
def test_a_process_ends_whatever_its_main_thread_does(what, number, code, stdout, stderr) -> None:
    command = [sys.executable, "-c", COMMAND, what, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done
    assert done.stdout.strip().endswith(stdout)
    assert done.stderr.strip() == stderr


IMPORTS = """
import os, signal, sys

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass
            except BaseException:
                pass
            print("swallowed", flush=True)

sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("module", ["jaxpg.train", "jaxpg.report"])
def test_ctrl_c_while_python_imports_ends_the_command(tmp_path, module) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPORTS)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "jaxpg: interrupted\n")
