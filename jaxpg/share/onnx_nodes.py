"""The nodes and constants of an ONNX graph while it is written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from jaxpg.core.errors import UserError

Value = str | np.ndarray
"""The name of a tensor in the graph, or a constant."""


def type_of(dtype: Any) -> int:
    """ONNX's number of a type of array. Raises UserError where ONNX has none."""
    try:
        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    except (KeyError, TypeError, ValueError) as error:
        raise inexpressible(f"numbers of the type {dtype}") from error


def inexpressible(what: str) -> UserError:
    """The error for a policy that has something for which there is no counterpart in ONNX."""
    return UserError(f"to: ONNX cannot express this policy: it has {what}; export it with --to stablehlo")


class Nodes:
    """The nodes and constants so far.

    Args:
      batch: the symbol for the size of the batch.
      input_name: the input, from which the size is read where a shape needs it.
    """

    def __init__(self, batch: Any, input_name: str):
        self._batch, self._input_name = batch, input_name
        self._constants: dict[str, np.ndarray] = {}
        self.nodes: list[onnx.NodeProto] = []

    def emit(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output, and returns the output's name."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.named(value) for value in inputs], [name], **attributes))
        return name

    def named(self, value: Value) -> str:
        """The name of a tensor. A constant gets one."""
        if isinstance(value, str):
            return value
        type_of(value.dtype)
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name

    def needed(self, outputs: Sequence[str]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and the constants on which the outputs depend."""
        wanted, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                wanted |= set(node.input)
                nodes.append(node)
        constants = [numpy_helper.from_array(x, name) for name, x in self._constants.items() if name in wanted]
        return nodes[::-1], constants

    def cast(self, value: Value, dtype: Any) -> Value:
        """The value in another type of number."""
        return value.astype(dtype) if isinstance(value, np.ndarray) else self.emit("Cast", value, to=type_of(dtype))

    def shape(self, sizes: Sequence[Any]) -> Value:
        """A shape as a tensor ``i64[...]``. Sizes may be the size of the batch."""
        if all(isinstance(size, int) for size in sizes):
            return np.array(sizes, np.int64)
        if any(not isinstance(size, int) and size != self._batch for size in sizes):
            raise inexpressible(f"an array of the shape {list(sizes)}")
        batch = self.emit("Shape", self._input_name, start=0, end=1)
        return self.emit("Concat", *(np.array([n]) if isinstance(n, int) else batch for n in sizes), axis=0)
