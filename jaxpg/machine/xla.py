"""Sets how XLA compiles and where compiled code is kept between processes."""

import errno
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import platformdirs

from jaxpg.core.errors import UserError, first_line
from jaxpg.machine.console import say

READ_FLAGS = "from jaxlib import _jax; _jax.CompileOptions()"
LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"
"""JAX keeps code that took at least so long to compile."""
PRODUCTS = "jax_default_matmul_precision"
"""How exactly JAX computes products and convolutions of float32 numbers."""
FUSIONS_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
"""What XLA on CPU leaves to YNNPACK; ``-name`` takes something out."""


def keep_compiled_code() -> None:
    """Keeps compiled code in the user's cache folder, so that a second start is quick.

    Small programs are kept, too, because a start compiles many of them. If the folder cannot be written, nothing is
    kept, and a sentence says so. The user's own ``JAX_COMPILATION_CACHE_DIR`` and
    ``JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`` have precedence.
    """
    if LEAST_SECONDS.upper() not in os.environ:
        jax.config.update(LEAST_SECONDS, 0)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = platformdirs.user_cache_path("jaxpg") / "xla"
    try:
        if not folder.is_absolute():  # "~/.cache" if there is no home folder
            raise FileNotFoundError(errno.ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        say(f"jaxpg: compiled code is not kept: {folder}: {error.strerror}", error=True)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


@contextmanager
def compiled_code_not_kept() -> Iterator[None]:
    """Compiles without a trace in the cache, for programs that no other process could use."""
    least = jax.config.values[LEAST_SECONDS]
    jax.config.update(LEAST_SECONDS, math.inf)
    try:
        yield
    finally:
        jax.config.update(LEAST_SECONDS, least)


def use_float32() -> None:
    """Turns JAX's 64-bit mode off for this process, because jaxpg's computations are written for 32 bits."""
    if jax.config.values["jax_enable_x64"]:
        say("jaxpg: computes in float32 and turns JAX's jax_enable_x64 off", error=True)
        jax.config.update("jax_enable_x64", False)


def keep_float32_products() -> None:
    """Makes products of float32 numbers float32 on accelerators, too. Must be called before anything is compiled.

    Otherwise NVIDIA's newer GPUs round the factors to TF32 and TPUs round them to bfloat16, so that the setting
    ``policy.precision`` would not say what is computed. The user's own ``JAX_DEFAULT_MATMUL_PRECISION`` has precedence.
    On CPU such products are float32 anyway.
    """
    if jax.default_backend() != "cpu" and jax.config.values[PRODUCTS] is None:
        jax.config.update(PRODUCTS, "highest")


def local_devices() -> list[jax.Device]:
    """The devices of this process. The first call initializes them.

    Raises:
      UserError: ``JAX_PLATFORMS`` asks for devices that do not exist here, or JAX cannot use those that do.
    """
    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        wanted = jax.config.values["jax_platforms"]
        if not wanted:
            raise UserError(
                f"JAX cannot use this machine's accelerator: {first_line(error)}; if another process uses it, wait for "
                "its end, or stay on the processor with JAX_PLATFORMS=cpu"
            ) from error
        jax.config.update("jax_platforms", "")  # use whatever exists
        available = jax.local_devices()[0].platform
        raise UserError(
            f"JAX_PLATFORMS={wanted}: JAX finds no such devices here; leave it out, or use {available}"
        ) from error


def choose_fusions() -> None:
    """Makes XLA on CPU compute sums itself and convolutions with Eigen. Must be called before the first use of JAX.

    Before version 0.12 JAX gives both to YNNPACK. Some of its sums over more than 32,768 rows are wrong
    (https://github.com/jax-ml/jax/issues/39103), and its convolutions take two or three times as long
    (docs/performance.md). If the user has set this flag in ``XLA_FLAGS``, the user's choice stays.

    Raises:
      UserError: XLA refuses the value of ``XLA_FLAGS``.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if flags and FUSIONS_FLAG not in flags:
        _check_flags(flags)
    if jax.__version_info__ < (0, 12) and FUSIONS_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FUSIONS_FLAG}=-individual_convolution,-reduce".strip()


def _check_flags(flags: str) -> None:
    """Tries the flags in another process, because XLA ends a process whose flags it does not know.

    Raises:
      UserError: XLA refuses the flags.
    """
    tried = subprocess.run([sys.executable, "-P", "-c", READ_FLAGS], capture_output=True, text=True, check=False)
    if tried.returncode:
        said = tried.stderr.strip().splitlines()
        reason = said[0].rpartition("] ")[2] if said else f"XLA ends with exit code {tried.returncode}"
        raise UserError(f"XLA_FLAGS={flags}: {reason}")
