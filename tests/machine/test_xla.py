"""How XLA is told to compile, in processes of their own, because it reads its flags once."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxpg.core.errors import UserError
from jaxpg.machine.xla import choose_fusions, keep_compiled_code, keep_float32_products, local_devices, use_float32
from tests.helpers import rounded_products

LIBRARYS = "__ynn_fusion"
COMPILES = f"""
import jax, jax.numpy as jnp
from jaxpg.machine.xla import choose_fusions
choose_fusions()
choose_fusions()
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


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [("--rubbish", "XLA_FLAGS=--rubbish: Unknown flag"), ("rubbish", "XLA_FLAGS=rubbish: Could not open file")],
)
def test_flags_at_which_xla_ends_the_process_are_a_sentence(monkeypatch, flags: str, sentence: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(UserError, match=sentence):
        choose_fusions()


def test_devices_that_are_not_there_are_a_sentence(monkeypatch) -> None:
    there = jax.local_devices

    def refuse() -> list:
        if jax.config.values["jax_platforms"] == "cuda":
            raise AssertionError  # as JAX does without a GPU
        return there()

    monkeypatch.setattr(jax, "local_devices", refuse)
    jax.config.update("jax_platforms", "cuda")
    try:
        with pytest.raises(UserError, match="^JAX_PLATFORMS=cuda: .* no such devices here; leave it out, or use cpu$"):
            local_devices()
    finally:
        jax.config.update("jax_platforms", None)
    assert local_devices() == there()


@pytest.mark.parametrize("home", ["file", "~"])
def test_a_cache_that_cannot_be_written_is_a_remark(monkeypatch, tmp_path, capsys, home: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path(home) / name)
    before = jax.config.values["jax_compilation_cache_dir"]
    keep_compiled_code()
    assert jax.config.values["jax_compilation_cache_dir"] == before
    assert capsys.readouterr().err.startswith(f"jaxpg: compiled code is not kept: {home}/jaxpg/xla: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("wish", "least"), [(None, 0), ("2.5", 1.0)])
def test_small_programs_are_kept_wherever_the_user_wants_the_cache(monkeypatch, wish: str | None, least: float) -> None:
    """1.0 is what JAX begins with. A wish of the user's is JAX's own to read."""
    name = "jax_persistent_cache_min_compile_time_secs"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.delenv(name.upper())
    if wish:
        monkeypatch.setenv(name.upper(), wish)
    before = jax.config.values[name]
    jax.config.update(name, 1.0)
    try:
        keep_compiled_code()
        assert jax.config.values[name] == least
    finally:
        jax.config.update(name, before)


def test_a_process_computes_in_32_bits(capsys) -> None:
    jax.config.update("jax_enable_x64", True)
    try:
        use_float32()
        assert not jax.config.values["jax_enable_x64"]
    finally:
        jax.config.update("jax_enable_x64", False)
    assert "jax_enable_x64" in capsys.readouterr().err
    use_float32()
    assert capsys.readouterr().err == ""


def _lowered() -> str:
    def both(pictures, filters, matrix):
        outputs = jax.lax.conv_general_dilated(
            pictures, filters, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return outputs, matrix @ matrix

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 4, 4, 1), (2, 2, 1, 1), (3, 3))]
    return jax.export.export(jax.jit(both), platforms=["cuda"])(*shapes).mlir_module()


def test_products_of_float32_are_float32_on_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_float32_products()
    assert len(rounded_products(_lowered())) == 2, "on CPU nothing is set, so that games are as before"
    monkeypatch.setattr(jax, "default_backend", lambda: "cuda")
    keep_float32_products()
    assert "HIGHEST" in _lowered()
    assert rounded_products(_lowered()) == []
    jax.config.update("jax_default_matmul_precision", "tensorfloat32")  # as the user's variable does
    keep_float32_products()
    assert len(rounded_products(_lowered())) == 2


def test_an_accelerator_that_another_process_holds_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list:
        raise RuntimeError("Unable to initialize backend 'tpu': ABORTED: The TPU is already in use\nby a process")

    monkeypatch.setattr(jax, "local_devices", refuse)
    monkeypatch.setitem(jax.config.values, "jax_platforms", None)
    with pytest.raises(UserError, match="^JAX cannot use this machine's accelerator: .* already in use; if another "):
        local_devices()
