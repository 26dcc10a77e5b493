"""What all tests share: one cache of compiled code, which is not the user's; one finished run; what saves time."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LONGEST_FIRST = [
    *("parallel/test_processes.py", "faults/test_faults.py"),
    *("learners/test_reinforce.py", "envs/test_every_game.py", "commands/test_recipes.py", "commands/test_record.py"),
    *("learners/test_evolution.py", "kernel/test_rollout.py", "run/test_interruptions.py", "run/test_recorder.py"),
    *("run/test_population_runs.py", "policies/test_networks.py", "envs/test_backends.py"),
    *("commands/test_train.py", "policies/test_convolution.py"),
]
"""Files that take most; each is one worker's (``--dist=loadfile``), so that what it shares is made once."""

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers and subprocesses inherit what is set here
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxpg-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name  # where the commands keep compiled code
    # Tests compile the same small programs again and again: what one process compiled, the others need not, however
    # small it is. The runs of tests/faults keep theirs as users' do.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{_CACHE.name}/tests"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    from jaxpg.machine.xla import use_fast_convolutions  # imports JAX, which reads what was set above

    use_fast_convolutions()  # as the commands do
    # As in a terminal: ``nohup`` and a shell's ``&`` let signals be ignored, which every process would inherit.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with what takes longest, so that no worker is left alone with it at the end."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    assert all(path.is_file() for path in ranks), "LONGEST_FIRST names a file that has moved"
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def _memory_goes_back() -> Iterator[None]:
    """Commands that run within a test process do not tell it to keep all memory that it ever had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxpg.machine.prepared.keep_freed_memory", lambda: None)
        yield


@pytest.fixture(autouse=True)
def _words_are_written() -> Iterator[None]:
    """What is said is written, as in a command, also where a test calls what lies beneath it."""
    from jaxpg.machine.console import speaking

    with speaking():
        yield


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """LLVM optimises little: for networks that are compiled at length and run once, where bits do not matter.

    Results differ in their last bits: what is compared to the bit or with what was made without it, or is shared with
    other files, must not be made under it.
    """
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Path:
    """Twenty iterations, saved every five: what every interrupted run is compared with."""
    import jax  # here, because it must find the cache folder above

    from tests.runs import cartpole

    assert not jax.config.values["jax_disable_most_optimizations"], "shared: not under quick_compilation"
    return cartpole(tmp_path_factory.mktemp("runs") / "whole", "--checkpoint.every-iterations", "5", iterations=20)
