"""Where compiled code is kept between processes."""

import os

import jax
import platformdirs


def keep_compiled_code() -> None:
    """Keeps compiled code in the user's cache folder, so that a second start is quick."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(platformdirs.user_cache_path("jaxpg") / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # small programs are many
