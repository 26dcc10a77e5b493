"""Divides the GPUs of this machine among child processes.

A process of JAX takes all GPUs that it sees, and three quarters of their memory. This module imports no JAX, because
the process that starts the others must not take the GPUs itself.
"""

import importlib.util
import math
import os
import pkgutil
from pathlib import Path

from jaxpg.core.errors import UserError

DEVICE_FILES = Path("/dev")
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The GPUs that a process sees, as numbers or names with commas between them."""
PREALLOCATES = "XLA_PYTHON_CLIENT_PREALLOCATE"
"""Whether JAX takes its share of a GPU's memory at once, instead of as much as it needs."""
FRACTION = "XLA_CLIENT_MEM_FRACTION"
"""The share of a GPU's memory that JAX takes."""
USERS_CHOICE = (FRACTION, "XLA_PYTHON_CLIENT_MEM_FRACTION", PREALLOCATES, "XLA_PYTHON_CLIENT_ALLOCATOR")
"""JAX's variables for a GPU's memory."""
DEFAULT_FRACTION = 0.75


def take_memory_as_needed() -> None:
    """Makes JAX take a GPU's memory bit by bit. Must be called before the first use of JAX.

    A policy that only plays needs little memory, and the GPU may be that of a training, which has taken three quarters.
    If the user has set one of JAX's variables for it, the user's choice stays.
    """
    if not _user_divides_memory():
        os.environ[PREALLOCATES] = "false"


def shares_of_gpus(key: str, processes: int, *, of_one_run: bool = False) -> list[dict[str, str]]:
    """Environment variables with which each of some child processes takes its own share of the GPUs.

    If there are fewer GPUs than processes, several processes share a GPU and divide the memory that JAX would take.
    Processes of one run cannot do that, because NVIDIA's communication library needs a GPU for each.

    Args:
      key: the setting that gives the number of processes.
      processes: that number.
      of_one_run: whether the processes work on one run together.

    Returns:
      The variables of each process; none where there is one process, or where JAX computes on the processor.

    Raises:
      UserError: the processes cannot share this machine's accelerators.
    """
    if processes > 1 and _platform() in ("", "tpu") and _has_tpu():
        raise UserError(f"{key}: JAX gives a TPU to a single process, not to {processes}; use 1, or JAX_PLATFORMS=cpu")
    gpus = own_gpus() if processes > 1 else []
    if not gpus:
        return [{} for _ in range(processes)]
    each = len(gpus) // processes
    if each:
        return [{VISIBLE: ",".join(gpus[each * index : each * (index + 1)])} for index in range(processes)]
    if of_one_run:
        raise UserError(
            f"{key}: each process of a run needs a GPU of its own, and there are {len(gpus)} for {processes} "
            f"processes; use at most {len(gpus)}, or JAX_PLATFORMS=cpu"
        )
    sharing = math.ceil(processes / len(gpus))
    memory = {} if _user_divides_memory() else {FRACTION: f"{DEFAULT_FRACTION / sharing:.4f}"}
    return [{VISIBLE: gpus[index % len(gpus)], **memory} for index in range(processes)]


def own_gpus() -> list[str]:
    """The NVIDIA GPUs that JAX would use in a child process, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if _platform() not in ("", "cuda", "gpu") or not _jax_knows_cuda():
        return []
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        unseen = [place for place, name in enumerate(names) if name in ("", "-1")]  # CUDA stops at such a name
        return names[: min(unseen, default=len(names))]
    numbers = (path.name.removeprefix("nvidia") for path in DEVICE_FILES.glob("nvidia[0-9]*"))
    return sorted((number for number in numbers if number.isdecimal()), key=int)


def _user_divides_memory() -> bool:
    return any(name in os.environ for name in USERS_CHOICE)


def _platform() -> str:
    """The platform that JAX would use, as the user asks for it; empty for the best one."""
    return os.environ.get("JAX_PLATFORMS", "").lower().split(",")[0].strip()


def _jax_knows_cuda() -> bool:
    """Whether JAX's plugin for CUDA is installed; without it JAX computes on the processor, whatever GPUs there are."""
    plugins = importlib.util.find_spec("jax_plugins")
    folders = plugins.submodule_search_locations if plugins else None
    return any(module.name.startswith("xla_cuda") for module in pkgutil.iter_modules(folders or []))


def _has_tpu() -> bool:
    """Whether JAX would use a TPU of this machine: its library is installed, and there are chips."""
    chips = [*DEVICE_FILES.glob("accel[0-9]*"), *DEVICE_FILES.glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None
