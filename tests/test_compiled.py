"""How XLA is told to compile, in processes of their own, because it reads its flags once."""

import os
import subprocess
import sys

import jax
import pytest

LIBRARYS = "__ynn_fusion"
COMPILES = f"""
import jax, jax.numpy as jnp
from jaxpg.compiled import use_fast_convolutions
use_fast_convolutions()
use_fast_convolutions()
def both(pictures, filters, matrix):
    outputs = jax.lax.conv_general_dilated(
        pictures, filters, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return outputs, matrix @ matrix
arguments = (jnp.ones((32, 84, 84, 4)), jnp.ones((8, 8, 4, 32)), jnp.ones((256, 256)))
print(jax.jit(both).lower(*arguments).compile().as_text().count('"{LIBRARYS}"'))
"""


@pytest.mark.parametrize(
    ("flags", "of_the_library"),
    [
        ("", 1 if jax.__version_info__ < (0, 12) else 2),
        ("--xla_cpu_experimental_ynn_fusion_type=", 0),  # the user's own choice
    ],
)
def test_the_library_gets_products_and_no_slow_convolutions(flags: str, of_the_library: int) -> None:
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", COMPILES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == of_the_library
