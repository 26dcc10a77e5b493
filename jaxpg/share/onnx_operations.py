"""JAX's operations as ONNX nodes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxpg.share.onnx_nodes import Nodes, Value, inexpressible

WIDER = {"int8": "int32", "uint8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "bool": "int32"}
"""Integers in whose own type ONNX Runtime does not compute. A cast back drops the higher bits, as an overflow does."""
Operation = Callable[[Nodes, Any, list[Value]], Value]
"""``(nodes, equation of the traced function, inputs) -> output``"""


def _computed(kind: str, **attributes: Any) -> Operation:
    """An operation on numbers, elementwise or a reduction, with the axes of a reduction as the last input."""

    def add(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
        wider = WIDER.get(str(eqn.invars[0].aval.dtype))
        axes = [np.array(eqn.params["axes"], np.int64)] if "axes" in eqn.params else []
        if wider is None:
            return nodes.emit(kind, *inputs, *axes, **attributes)
        result = nodes.emit(kind, *(nodes.cast(x, wider) for x in inputs), *axes, **attributes)
        wanted = eqn.outvars[0].aval.dtype
        return result if wanted == np.bool_ else nodes.cast(result, wanted)

    return add


def _logical(of_booleans: str, of_integers: str) -> Operation:
    def add(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
        return nodes.emit(of_booleans if eqn.outvars[0].aval.dtype == np.bool_ else of_integers, *inputs)

    return add


def _not_equal(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Not", _computed("Equal")(nodes, eqn, inputs))


def _square(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return _computed("Mul")(nodes, eqn, [inputs[0], inputs[0]])


def _power(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    exponent = np.asarray(eqn.params["y"], eqn.invars[0].aval.dtype)
    return _computed("Pow")(nodes, eqn, [inputs[0], exponent])


def _exp_minus_1(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Sub", nodes.emit("Exp", *inputs), np.ones((), eqn.outvars[0].aval.dtype))


def _log_plus_1(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Log", nodes.emit("Add", *inputs, np.ones((), eqn.outvars[0].aval.dtype)))


def _rsqrt(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Reciprocal", nodes.emit("Sqrt", *inputs))


def _shifted(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    if eqn.outvars[0].aval.dtype.kind != "u":
        raise inexpressible("a shift of integers with a sign")
    return nodes.emit("BitShift", *inputs, direction="RIGHT")


def _selected(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    which, *cases = inputs
    dtype = eqn.outvars[0].aval.dtype
    if eqn.invars[0].aval.dtype != np.bool_ or len(cases) != 2:
        raise inexpressible("a choice among more than two arrays")
    if (wider := WIDER.get(str(dtype))) is None:
        return nodes.emit("Where", which, cases[1], cases[0])
    return nodes.cast(nodes.emit("Where", which, *(nodes.cast(x, wider) for x in cases[::-1])), dtype)


def _clamped(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    low, x, high = inputs
    at_least = _computed("Max")(nodes, eqn, [x, low])
    return _computed("Min")(nodes, eqn, [at_least, high])


def _converted(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.cast(inputs[0], eqn.params["new_dtype"])


def _argument(kind: str) -> Operation:
    def add(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
        (axis,) = eqn.params["axes"]
        return nodes.cast(nodes.emit(kind, *inputs, axis=axis, keepdims=0), eqn.params["index_dtype"])

    return add


def _broadcast(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    wanted, kept = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    sizes = [1] * len(wanted)
    for axis, size in zip(kept, eqn.invars[0].aval.shape, strict=True):
        sizes[axis] = size
    added = np.array([axis for axis in range(len(wanted)) if axis not in kept], np.int64)
    value = nodes.emit("Unsqueeze", inputs[0], added) if added.size else inputs[0]
    target = [1 if size == now else size for size, now in zip(wanted, sizes, strict=True)]
    return value if set(target) <= {1} else nodes.emit("Expand", value, nodes.shape(target))


def _reshaped(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    sizes = [size if isinstance(size, int) else -1 for size in eqn.params["new_sizes"]]
    if sizes.count(-1) > 1 or eqn.params["dimensions"] is not None:
        raise inexpressible(f"an array of the shape {list(eqn.params['new_sizes'])}")
    return nodes.emit("Reshape", inputs[0], np.array(sizes, np.int64))


def _squeezed(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Squeeze", inputs[0], np.array(eqn.params["dimensions"], np.int64))


def _transposed(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Transpose", inputs[0], perm=eqn.params["permutation"])


def _sliced(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    end = np.iinfo(np.int64).max
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)
    limits = [limit if isinstance(limit, int) else end for limit in limits]
    return nodes.emit("Slice", inputs[0], *(np.array(x, np.int64) for x in (starts, limits, range(len(starts)), steps)))


def _indexed(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    """A part of an array that begins at a constant place, as in ``x[..., 0]``."""
    array, place = inputs
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not isinstance(place, np.ndarray) or place.ndim != 1 or numbers.operand_batching_dims:
        raise inexpressible("a choice of array elements by computed numbers")
    axes = np.array(numbers.start_index_map, np.int64)
    found: Value = array
    if axes.size:
        ends = place.astype(np.int64) + [sizes[axis] for axis in axes]
        found = nodes.emit("Slice", array, place.astype(np.int64), ends, axes)
    dropped = np.array(numbers.collapsed_slice_dims, np.int64)
    return nodes.emit("Squeeze", found, dropped) if dropped.size else found


def _concatenated(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    return nodes.emit("Concat", *inputs, axis=eqn.params["dimension"])


def _stacked(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    axis = eqn.params["axis"]
    return nodes.emit("Concat", *(nodes.emit("Unsqueeze", x, np.array([axis])) for x in inputs), axis=axis)


def _padded(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    before, after, between = zip(*eqn.params["padding_config"], strict=True)
    if any(between):
        raise inexpressible("numbers put between those of an array")
    return nodes.emit("Pad", inputs[0], np.array([*before, *after], np.int64), inputs[1])


def _product(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    (left_summed, right_summed), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = (len(var.aval.shape) for var in eqn.invars)
    if not left_batch and right == 2 and (*left_summed, *right_summed) == (left - 1, 0):
        return nodes.emit("MatMul", *inputs)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left_axes = {axis: next(letters) for axis in range(left)}
    shared = dict(zip((*right_batch, *right_summed), (*left_batch, *left_summed), strict=True))
    right_axes = {axis: left_axes[shared[axis]] if axis in shared else next(letters) for axis in range(right)}
    kept = [left_axes[axis] for axis in left_batch]
    kept += [left_axes[axis] for axis in range(left) if axis not in (*left_batch, *left_summed)]
    kept += [right_axes[axis] for axis in range(right) if axis not in shared]
    equation = f"{''.join(left_axes.values())},{''.join(right_axes.values())}->{''.join(kept)}"
    return nodes.emit("Einsum", *inputs, equation=equation)


def _convolution(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) != {1}:
        raise inexpressible("a transposed or grouped convolution")
    pictures, filters = inputs
    if isinstance(filters, np.ndarray):
        filters = filters.transpose(numbers.rhs_spec)
    else:
        filters = nodes.emit("Transpose", filters, perm=numbers.rhs_spec)
    outputs = nodes.emit(
        "Conv",
        nodes.emit("Transpose", pictures, perm=numbers.lhs_spec),
        filters,
        strides=params["window_strides"],
        pads=[*(low for low, _ in params["padding"]), *(high for _, high in params["padding"])],
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )
    return nodes.emit("Transpose", outputs, perm=[int(axis) for axis in np.argsort(numbers.out_spec)])


def _largest_of_windows(nodes: Nodes, eqn: Any, inputs: list[Value]) -> Value:
    params, axes = eqn.params, range(len(eqn.params["window_dimensions"]))
    sizes, steps, around = params["window_dimensions"], params["window_strides"], params["padding"]
    whole = [axis for axis in axes if (sizes[axis], steps[axis], tuple(around[axis])) == (1, 1, (0, 0))]
    if len(whole) < 2 or len(whole) == len(axes) or set(params["base_dilation"]) != {1}:
        raise inexpressible("a pooling over the batch or over channels")
    order = [*whole[:2], *(axis for axis in axes if axis not in whole[:2])]
    pooled = nodes.emit(
        "MaxPool",
        nodes.emit("Transpose", inputs[0], perm=order),
        kernel_shape=[sizes[axis] for axis in order[2:]],
        strides=[steps[axis] for axis in order[2:]],
        pads=[*(around[axis][0] for axis in order[2:]), *(around[axis][1] for axis in order[2:])],
        dilations=[params["window_dilation"][axis] for axis in order[2:]],
    )
    return nodes.emit("Transpose", pooled, perm=[int(axis) for axis in np.argsort(order)])


OPERATIONS: dict[str, Operation] = {
    **{name: _computed(name.capitalize()) for name in ("neg", "exp", "log", "tanh", "sqrt", "abs", "sign", "erf")},
    **{name: _computed(name.capitalize()) for name in ("floor", "ceil", "sin", "cos", "add", "sub", "mul", "div")},
    **{name: _computed(name.capitalize()) for name in ("max", "min", "pow")},
    **{f"reduce_{name}": _computed(f"Reduce{name.capitalize()}", keepdims=0) for name in ("sum", "max", "min", "prod")},
    **{"eq": _computed("Equal"), "ne": _not_equal, "lt": _computed("Less"), "le": _computed("LessOrEqual")},
    **{"gt": _computed("Greater"), "ge": _computed("GreaterOrEqual"), "rem": _computed("Mod", fmod=1)},
    **{"and": _logical("And", "BitwiseAnd"), "or": _logical("Or", "BitwiseOr"), "xor": _logical("Xor", "BitwiseXor")},
    **{"not": _logical("Not", "BitwiseNot"), "shift_right_logical": _shifted, "logistic": _computed("Sigmoid")},
    **{"square": _square, "integer_pow": _power, "rsqrt": _rsqrt, "expm1": _exp_minus_1, "log1p": _log_plus_1},
    **{"stack": _stacked, "select_n": _selected, "clamp": _clamped},
    **{"convert_element_type": _converted, "argmax": _argument("ArgMax"), "argmin": _argument("ArgMin")},
    **{"broadcast_in_dim": _broadcast, "reshape": _reshaped, "squeeze": _squeezed, "transpose": _transposed},
    **{"slice": _sliced, "gather": _indexed, "concatenate": _concatenated, "pad": _padded, "dot_general": _product},
    **{"conv_general_dilated": _convolution, "reduce_window_max": _largest_of_windows},
}
