"""What all tests share: one cache of compiled code, which is not the user's; one finished run."""

import os
import tempfile
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers and subprocesses inherit what is set here
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxpg-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name  # where the commands keep compiled code
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)


def pytest_configure() -> None:
    """Tests compile the same small programs again and again: what one process compiled, the others need not."""
    from jaxpg.compiled import keep_compiled_code  # here, because it imports JAX, which must find the folder above

    keep_compiled_code()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Path:
    """Twenty iterations, saved every five: what every interrupted run is compared with."""
    from tests.runs import cartpole  # here, because it imports JAX, which must find the cache folder above

    return cartpole(tmp_path_factory.mktemp("runs") / "whole", "--checkpoint.every-iterations", "5", iterations=20)
