"""How XLA compiles, and where compiled code is kept between processes."""

import errno
import os
import subprocess
import sys
import tempfile

import jax
import platformdirs

from jaxpg.core.errors import UserError
from jaxpg.machine.console import say

READ_FLAGS = "from jaxlib import _jax; _jax.CompileOptions()"
CONVOLUTIONS_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def keep_compiled_code() -> None:
    """Keeps compiled code in the user's cache folder, so that a second start is quick; without it where it cannot."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = platformdirs.user_cache_path("jaxpg") / "xla"
    try:
        if not folder.is_absolute():  # "~/.cache", where there is no home
            raise FileNotFoundError(errno.ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        say(f"jaxpg: compiled code is not kept: {folder}: {error.strerror}", error=True)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # small programs are many


def use_float32() -> None:
    """Turns JAX's 64-bit mode off for this process; half of what is compiled was made for 32 bits."""
    if jax.config.values["jax_enable_x64"]:
        say("jaxpg: computes in float32 and turns JAX's jax_enable_x64 off", error=True)
        jax.config.update("jax_enable_x64", False)


def local_devices() -> list[jax.Device]:
    """The devices of this process, which the first call makes ready.

    Raises:
      UserError: the environment asks for devices that are not there.
    """
    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        wanted = jax.config.values["jax_platforms"]
        if not wanted:
            raise
        jax.config.update("jax_platforms", "")  # whatever there is
        there = jax.local_devices()[0].platform
        raise UserError(
            f"JAX_PLATFORMS={wanted}: JAX finds no such devices here; leave it out, or use {there}"
        ) from error


def use_fast_convolutions() -> None:
    """Has XLA on CPU make convolutions by Eigen; to be called before JAX is first used.

    Before JAX 0.12 it hands them to YNNPACK, where they take two or three times as long (docs/performance.md). The
    user's own choice stays.

    Raises:
      UserError: XLA refuses the variable XLA_FLAGS.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if flags and CONVOLUTIONS_FLAG not in flags:
        _check_flags(flags)
    if jax.__version_info__ < (0, 12) and CONVOLUTIONS_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {CONVOLUTIONS_FLAG}=-individual_convolution".strip()


def _check_flags(flags: str) -> None:
    """UserError for flags at which XLA ends the process; tried in another one."""
    tried = subprocess.run([sys.executable, "-c", READ_FLAGS], capture_output=True, text=True, check=False)
    if tried.returncode:
        said = tried.stderr.strip().splitlines()
        reason = said[0].rpartition("] ")[2] if said else f"XLA ends with exit code {tried.returncode}"
        raise UserError(f"XLA_FLAGS={flags}: {reason}")
