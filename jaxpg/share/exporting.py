"""Exports a policy with its observation as one function: the command and the function ``jaxpg.export``."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np
import tyro
from jax import export as jax_export

from jaxpg import __version__
from jaxpg.cli import parse
from jaxpg.core.errors import FaultError, UserError, check_name, first_line
from jaxpg.evaluate import load_policy
from jaxpg.machine.console import say
from jaxpg.machine.durable_files import try_to_write, write_bytes, write_json

Format = Literal["stablehlo", "onnx"]
PLATFORMS = ("cpu", "cuda", "tpu")
INPUT, OUTPUTS = "observation", ("action", "probabilities")
TRIED = 16
"""Observations on which an ONNX model is compared with the policy before it is written."""
TOLERANCE = 1e-4
"""Largest difference of a probability between ONNX Runtime and JAX."""


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Exports a run's policy as one function for programs without jaxpg: raw observations in, actions and their
    probabilities out. A JSON file beside it says what the numbers mean.
    """

    POSITIONAL: ClassVar[str] = "run folder"
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder."""
    to: Format = "stablehlo"
    """stablehlo (for JAX and XLA on CPU, CUDA and TPU, read with jax.export), or onnx (needs jaxpg's extra onnx)."""
    out: str = ""
    """File to write; empty for policy.stablehlo or policy.onnx. The JSON file has the same name and .json behind it."""
    checkpoint: str = "latest"
    """Iteration of a checkpoint, latest, or best."""
    member: int | None = None
    """Member of a population, from 0; without it the best one."""
    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) that register what the run uses, in place of those that the run names."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Import the modules that the run folder names, which runs their code."""


def export(
    run: str | Path,
    to: Format = "stablehlo",
    out: str | Path = "",
    *,
    checkpoint: str | int = "latest",
    member: int | None = None,
    imports: Sequence[str] = (),
    trust_imports: bool = False,
) -> Path:
    """Exports a run's policy as one function, for programs without jaxpg.

    The function takes a batch of any size of raw observations. It returns the most probable actions and the
    probabilities of all actions, from which a program can sample.

    Args:
      run: the run folder.
      to: ``"stablehlo"``, which ``jax.export.deserialize`` reads, or ``"onnx"``.
      out: the file to write; empty for ``policy.stablehlo`` or ``policy.onnx``.
      checkpoint: an iteration, ``"latest"``, or ``"best"``.
      member: whose policy, in a population, from 0; None for the best member's.
      imports: modules and files to import first, because they register what the run uses.
      trust_imports: whether to import the modules that the run folder names, which runs their code.

    Returns:
      The path of the file. The file beside it, with ``.json`` behind the name, says what inputs and outputs mean.

    Raises:
      UserError: the run cannot be opened, the file cannot be written, or ONNX cannot express the policy.
      FaultError: ONNX Runtime does not compute what the policy computes.
    """
    check_name("to", to, ("stablehlo", "onnx"))
    path = Path(out or f"policy.{to}")
    if path.is_dir():
        raise UserError(f"out: {path} is a folder; give the name of a file, such as {path / f'policy.{to}'}")
    if to == "onnx":
        _import_onnx()
    try_to_write(path.parent, path)
    policy = load_policy(run, checkpoint, member=member, imports=imports, trust_imports=trust_imports)
    function = BatchFunction(policy.of_batch, policy.observation_shape, policy.observation_dtype)
    described = {
        "made_by": f"jaxpg {__version__}, jax {version('jax')}",
        "format": to,
        "game": policy.task.game,
        "checkpoint": policy.checkpoint,
        **_interface(function, policy.task.inputs, policy.action_names),
        "actions_in_training": "greedy" if policy.is_greedy else "sampled",
    }
    content = onnx_bytes(function, json.dumps(described)) if to == "onnx" else stablehlo_bytes(function)
    _write_both(path, content, {**described, "sha256": hashlib.sha256(content).hexdigest()})
    say(f"jaxpg: {run}, checkpoint {policy.checkpoint}: {len(content):,} bytes in {path}, described in {path}.json")
    return path


class BatchFunction(NamedTuple):
    """A policy as a pure function of a batch of any size B."""

    call: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    """``raw observations [B, *shape] -> (actions i32[B], probabilities f32[B, A])``"""
    shape: tuple[int, ...]
    dtype: np.dtype


def _interface(function: BatchFunction, settings: Any, action_names: Sequence[str]) -> dict[str, Any]:
    """What the exported function takes and returns; ``settings`` are those that made the observations."""
    return {
        "input": {"name": INPUT, "shape": ["B", *function.shape], "dtype": str(function.dtype), "settings": settings},
        "outputs": [
            {"name": OUTPUTS[0], "shape": ["B"], "dtype": "int32", "meaning": "the most probable action"},
            {"name": OUTPUTS[1], "shape": ["B", len(action_names)], "dtype": "float32"},
        ],
        "actions": list(action_names),
    }


def stablehlo_bytes(function: BatchFunction) -> bytes:
    """Compiles the function to StableHLO for CPU, CUDA and TPU, as ``jax.export.deserialize`` reads it.

    Raises:
      UserError: the function cannot be compiled for a batch of any size, or for another platform.
    """
    (batch,) = jax_export.symbolic_shape("B")
    given = jax.ShapeDtypeStruct((batch, *function.shape), function.dtype)
    try:
        exported = jax_export.export(jax.jit(function.call), platforms=PLATFORMS)(given)
        return bytes(exported.serialize(vjp_order=0))
    except Exception as error:  # JAX raises many kinds for a user's own policy
        raise UserError(f"to: JAX cannot export this policy: {first_line(error)}") from error


def onnx_bytes(function: BatchFunction, description: str) -> bytes:
    """Writes the function as an ONNX model, and compares the model with the function.

    Args:
      function: the policy.
      description: a text that the model keeps by the key ``jaxpg``.

    Raises:
      UserError: ONNX cannot express the function.
      FaultError: ONNX Runtime computes something else.
    """
    from jaxpg.share.onnx_graph import onnx_model

    names = (INPUT, OUTPUTS)
    model = onnx_model(function.call, function.shape, function.dtype, names, {"jaxpg": description})
    content: bytes = model.SerializeToString()
    _compare(function, content)
    return content


def _compare(function: BatchFunction, content: bytes) -> None:
    """Compares an ONNX model with the function on random observations. Raises FaultError where they differ."""
    import onnxruntime

    random, kind, shape = np.random.default_rng(0), function.dtype.kind, (TRIED, *function.shape)
    numbers = random.normal(size=shape) if kind == "f" else random.integers(0, 2 if kind == "b" else 128, shape)
    observations = numbers.astype(function.dtype)
    _, wanted = jax.device_get(jax.jit(function.call)(observations))
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        _, found = session.run(None, {INPUT: observations})
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise UserError(
            f"to: ONNX Runtime cannot run this policy ({first_line(error)}); export it with --to stablehlo"
        ) from error
    difference = float(np.abs(found - wanted).max())
    if not difference <= TOLERANCE:  # also where it is NaN
        raise FaultError(f"ONNX Runtime's probabilities differ from JAX's by {difference:.2g}; no file was written")


def _import_onnx() -> None:
    """Raises UserError where the packages of the extra are missing."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"to: onnx needs the package {error.name}, which is not installed; pip install 'jaxpg[onnx]'"
        ) from error
    del onnx, onnxruntime


def _write_both(path: Path, content: bytes, described: dict[str, Any]) -> None:
    """Writes the file and its description, each atomically. Raises UserError where they cannot be written."""
    try:
        write_json(path.with_name(f"{path.name}.json"), described)
        write_bytes(path, [content])
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def command(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code, 0."""
    export(**vars(parse("export", argv, ExportArguments())))
    return 0
