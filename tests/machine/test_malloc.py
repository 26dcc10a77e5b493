"""Freed memory stays with the process."""

import ctypes
import platform
import subprocess
import sys

import pytest

from jaxpg.machine.malloc import keep_freed_memory

TOUCH_AND_FREE = """
import ctypes, resource, sys, threading
from jaxpg.machine.malloc import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use() -> None:
    address = libc.malloc(30_000_000)
    libc.memset(address, 1, 30_000_000)
    libc.free(address)

def use_often() -> None:
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        use()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=use_often)
thread.start()
thread.join()
"""
"""Pages that a thread fetches to use 30 MB five times, once it has used as much."""


def _pages_fetched(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", TOUCH_AND_FREE, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("a library was asked for"))
    keep_freed_memory()


def test_memory_that_a_thread_freed_is_used_again() -> None:
    assert _pages_fetched("kept") < 100
    assert _pages_fetched("as it is") > 1000, "what the setting is there for"
