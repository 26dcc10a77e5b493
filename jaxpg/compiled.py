"""How XLA compiles, and where compiled code is kept between processes."""

import os

import jax
import platformdirs

CONVOLUTIONS_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def keep_compiled_code() -> None:
    """Keeps compiled code in the user's cache folder, so that a second start is quick."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(platformdirs.user_cache_path("jaxpg") / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # small programs are many


def use_fast_convolutions() -> None:
    """Has XLA on CPU make convolutions by Eigen; to be called before JAX is first used.

    Before JAX 0.12 it hands them to YNNPACK, where they take two or three times as long (docs/performance.md). The
    user's own choice stays.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.__version_info__ < (0, 12) and CONVOLUTIONS_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {CONVOLUTIONS_FLAG}=-individual_convolution".strip()
