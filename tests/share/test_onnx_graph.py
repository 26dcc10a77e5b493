"""Single functions as ONNX models, whose outputs in ONNX Runtime are compared with JAX's."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx

from jaxpg.core.errors import UserError
from jaxpg.share.onnx_graph import onnx_model

BATCH = 5


def _outputs(function: Callable, observations: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes."""
    model = onnx_model(lambda x: (function(x),), observations.shape[1:], observations.dtype, ("x", ("y",)), {"a": "b"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("a", "b")]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": observations})[0]


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(BATCH, *shape)).astype(np.float32)


def _bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (BATCH, *shape)).astype(np.uint8)


EXACT = {
    "a difference that overflows": lambda x: (x[:, 0].astype(jnp.int8) - x[:, 1].astype(jnp.int8)) * jnp.int8(3),
    "a sum that overflows": lambda x: x + x,
    "halves": lambda x: x >> 1,
    "division and remainder below zero": lambda x: (
        (x.astype(jnp.int32) - 100) // 7 * 10 + (x.astype(jnp.int32) - 99) % 7
    ),
    "a choice of bytes": lambda x: jnp.where((x == 3) | (x > 100) & ~(x >= 200), 0, x),
    "a choice of booleans": lambda x: jnp.where(x > 9, x < 99, x != 20),
    "bounds": lambda x: jnp.clip(x, 10, 20),
    "every second": jax.vmap(lambda x: x[1::2, ::3]),
    "one element": lambda x: x[..., 1],
    "one row": lambda x: x[:, 2],
    "zeros around": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3)), constant_values=7),
    "neighbours": lambda x: jnp.concatenate([x, x[:, :1]], axis=1).swapaxes(1, 2),
    "a constant for each of the batch": lambda x: jnp.full((x.shape[0], 3), 2.5),
    "flat": lambda x: x.reshape(x.shape[0], -1),
    "largest and smallest": lambda x: x.max(axis=(1, 2)) - x.min(axis=(1, 2)),
    "the place of the largest": lambda x: jnp.stack([x[:, 0].argmax(-1), x[:, 0].argmin(-1)], axis=-1),
    "sum of bytes": lambda x: x.sum(axis=1),
    "bits": lambda x: (x & 12) ^ (x | 3),
}


@pytest.mark.parametrize("name", EXACT)
def test_integers_are_equal(name: str) -> None:
    observations = _bytes(4, 6)
    wanted = np.asarray(EXACT[name](jnp.asarray(observations)))
    found = _outputs(EXACT[name], observations)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)), jnp.float32)
FILTERS = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 4, 8)), jnp.float32)


def _convolved(x: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, FILTERS, (2, 1), ((1, 0), (0, 2)), rhs_dilation=(1, 2), dimension_numbers=numbers
    )


def _grouped(x: jax.Array) -> jax.Array:
    filters = FILTERS[:, :, :1]
    return jax.lax.conv_general_dilated(
        x, filters, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW"), feature_group_count=4
    )


NEAR = {
    "product": ((6,), lambda x: x @ WEIGHTS),
    "product from the left": ((6,), jax.vmap(lambda x: WEIGHTS.T @ x)),
    "product of batches": ((3, 6), lambda x: jnp.einsum("bij,bkj->bik", x, x)),
    "convolution": ((8, 9, 4), _convolved),
    "convolution with groups, channels first": ((4, 7, 6), _grouped),
    "pooling": ((8, 9, 4), lambda x: nnx.max_pool(x, (2, 3), (2, 2), padding="SAME")),
    "functions": ((6,), lambda x: jnp.tanh(x) + jnp.exp(-jnp.abs(x)) * jnp.sign(x) + jnp.log(1 + x**2) + x**-3),
    "activations": ((6,), lambda x: nnx.gelu(x) + nnx.silu(x) + nnx.sigmoid(x) + nnx.elu(x) + nnx.softplus(x)),
    "roots": ((6,), lambda x: jax.lax.rsqrt(x * x + 1) + jnp.sqrt(jnp.square(x)) + jnp.floor(x) * jnp.ceil(x)),
    "softmax": ((6,), jax.nn.softmax),
    "norm": ((6,), nnx.LayerNorm(6, rngs=nnx.Rngs(0))),
    "remat": ((6,), jax.checkpoint(lambda x: jnp.sin(x) * x.mean(axis=-1, keepdims=True))),
}


@pytest.mark.parametrize("name", NEAR)
def test_floats_are_near(name: str) -> None:
    shape, function = NEAR[name]
    observations = _floats(*shape)
    np.testing.assert_allclose(_outputs(function, observations), function(jnp.asarray(observations)), atol=2e-5)


INEXPRESSIBLE = {
    "JAX's operation sort": jnp.sort,
    "JAX's operation scan": lambda x: jax.lax.scan(lambda total, y: (total + y, total), x[:, 0], x.T)[0],
    "JAX's operation bitcast_convert_type": lambda x: jax.lax.bitcast_convert_type(x, jnp.uint32),
    "a choice of array elements": jax.vmap(lambda y: y[y.argmax()]),
    "no batch of any size": lambda x: x[:3] if x.shape[0] > 3 else x,
    "a pooling over the batch": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 1), (1, 1), "VALID"),
}


@pytest.mark.parametrize("what", INEXPRESSIBLE)
def test_what_onnx_cannot_express_is_named(what: str) -> None:
    with pytest.raises(UserError, match=f"to: ONNX cannot express this policy: it has {what}") as error:
        _outputs(INEXPRESSIBLE[what], _floats(6))
    assert "--to stablehlo" in str(error.value)
