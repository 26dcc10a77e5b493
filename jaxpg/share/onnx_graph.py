"""Writes a JAX function of one batch of arrays as an ONNX model.

JAX traces the function to a list of primitive operations. Each operation becomes one ONNX node or a few of them. What
depends on no input, such as scaled filters, is computed here and stored as a constant.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax import export
from jax.extend.core import Literal
from onnx import helper

from jaxpg.core.errors import first_line
from jaxpg.share.onnx_nodes import Nodes, Value, inexpressible, type_of
from jaxpg.share.onnx_operations import OPERATIONS

OPSET, IR_VERSION = 18, 9
"""Versions of ONNX that runtimes have known since 2023."""
CALLS = {
    **{"jit": "jaxpr", "pjit": "jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr", "closed_call": "call_jaxpr"},
    **{"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"},
}
"""Operations that call a traced function, and the parameter that holds the function."""
UNCHANGED = ("stop_gradient", "optimization_barrier", "copy", "copy_p")
"""Operations that return their inputs."""


def onnx_model(
    function: Callable[[jax.Array], Sequence[jax.Array]],
    shape: Sequence[int],
    dtype: np.dtype,
    names: tuple[str, Sequence[str]],
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """Writes ``function`` as an ONNX model whose batch may have any size B.

    Args:
      function: from an array ``[B, *shape]`` to a sequence of arrays.
      shape: the shape of one input.
      dtype: the type of the input.
      names: the name of the input, and those of the outputs.
      metadata: texts that the model keeps by their keys.

    Raises:
      UserError: the function uses an operation that has no counterpart in ONNX.
    """
    (batch,) = export.symbolic_shape("B")
    given = jax.ShapeDtypeStruct((batch, *shape), dtype)
    try:
        closed, outputs = jax.make_jaxpr(function, return_shape=True)(given)
    except Exception as error:  # the policy looks at the size of the batch
        raise inexpressible(f"no batch of any size ({first_line(error)})") from error
    input_name, output_names = names
    graph = Nodes(batch, input_name)
    found = _add_function(graph, closed.jaxpr, closed.consts, [input_name])
    for value, name in zip(found, output_names, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.named(value)], [name]))
    nodes, constants = graph.needed(output_names)
    described = [_info(name, output) for name, output in zip(output_names, outputs, strict=True)]
    model = helper.make_model(
        helper.make_graph(nodes, "policy", [_info(input_name, given)], described, constants),
        producer_name="jaxpg",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise inexpressible(f"an operation that ONNX refuses ({first_line(error)})") from error
    return model


def _info(name: str, like: Any) -> onnx.ValueInfoProto:
    sizes = [size if isinstance(size, int) else "B" for size in like.shape]
    return helper.make_tensor_value_info(name, type_of(like.dtype), sizes)


def _add_function(nodes: Nodes, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Adds the nodes of a traced function, and returns its outputs."""
    known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {var: np.asarray(const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        is_literal = isinstance(atom, Literal)
        return np.asarray(atom.val, atom.aval.dtype) if is_literal else known[atom]

    for eqn in jaxpr.eqns:
        results = _add_operation(nodes, eqn, [read(atom) for atom in eqn.invars])
        known |= dict(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _add_operation(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Sequence[Value]:
    """Adds the nodes of one operation, and returns its outputs."""
    name = eqn.primitive.name
    if name in CALLS:
        inner = eqn.params[CALLS[name]]
        return _add_function(nodes, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
    if name in UNCHANGED:
        return inputs
    sizes = [size for var in eqn.outvars for size in var.aval.shape]
    if all(isinstance(x, np.ndarray) for x in inputs) and all(isinstance(size, int) for size in sizes):
        results = eqn.primitive.bind(*inputs, **eqn.params)
        return [np.asarray(x) for x in (results if eqn.primitive.multiple_results else [results])]
    if name not in OPERATIONS:
        raise inexpressible(f"JAX's operation {name}")
    return [OPERATIONS[name](nodes, eqn, inputs)]
