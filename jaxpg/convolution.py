"""Convolution of pictures, in the form that is fast where it runs.

XLA's own convolutions are slow on CPU: the same sums as one matrix product over patches take two thirds of the time,
and the weights' gradient half (docs/performance.md). On every other device they are used as they are.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxpg.observations import unit_scale
from jaxpg.patches import bfloat16_patches_of, padded, patches_of

Precision = Literal["float32", "bfloat16"]
"""What operands of products are rounded to, which are added up in float32 (Kalamkar et al. 2019, section 2)."""


def convolve(pictures: jax.Array, kernel: jax.Array, stride: int, precision: Precision = "float32") -> jax.Array:
    """Cross-correlation of pictures with filters, as ``jax.lax.conv`` without padding.

    Args:
      pictures: ``f32[..., H, W, C]``, or ``u8[..., H, W, C]`` whose bytes stand for [0, 1].
      kernel: ``f32[k, k, C, F]``.
      stride: pixels between two outputs.
      precision: what pictures and filters are rounded to. Except on CPU outputs are rounded to it, too.

    Returns:
      ``f32[..., (H - k) // stride + 1, (W - k) // stride + 1, F]``.
    """
    if jax.default_backend() == "cpu":
        multiply = _float32_product if precision == "float32" else _bfloat16_product
        return multiply(pictures, kernel, stride)
    scaled = unit_scale(pictures)
    outputs = jax.lax.conv_general_dilated(
        scaled.reshape(-1, *scaled.shape[-3:]).astype(precision),
        kernel.astype(precision),
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return outputs.reshape(*scaled.shape[:-3], *outputs.shape[1:]).astype(jnp.float32)


@partial(jax.checkpoint, static_argnums=2, prevent_cse=False)
def _float32_product(pictures: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A checkpoint, so that a gradient made later needs the pictures and not their patches, many times as large."""
    size = len(kernel)
    patches = patches_of(pictures, size, stride)
    weights = _as_matrix(kernel)
    if patches.dtype == jnp.uint8:  # bytes are laid out as bytes, a quarter of the memory, and scaled in the weights
        patches = jax.lax.optimization_barrier(patches).astype(jnp.float32)
        weights = weights / 255
    return jnp.einsum("...p,fp->...f", patches, _gradient_as_computed(weights))


@jax.custom_vjp
def _gradient_as_computed(weights: jax.Array) -> jax.Array:
    """The weights themselves. Their gradient is the product (outputs x patches), whose transpose the kernel wants; the
    barrier keeps XLA from computing (patches x outputs) instead, which takes twice as long.
    """
    return weights


_gradient_as_computed.defvjp(
    lambda weights: (weights, None), lambda _, gradient: (jax.lax.optimization_barrier(gradient),)
)


def _bfloat16_product(pictures: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    weights = _as_matrix(kernel)
    return _bfloat16_convolution(
        pictures, weights / 255 if pictures.dtype == jnp.uint8 else weights, len(kernel), stride
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _bfloat16_convolution(pictures: jax.Array, weights: jax.Array, size: int, stride: int) -> jax.Array:
    """JAX's own gradient would multiply bfloat16 by float32, which XLA does in float32. This one adds up a weight's
    gradient over all leading axes at once, so pictures come as a batch: under ``vmap`` each would make its own.
    """
    return _forward(pictures, weights, size, stride)[0]


def _forward(
    pictures: jax.Array, weights: jax.Array, size: int, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if pictures.dtype != jnp.uint8:
        pictures = pictures.astype(jnp.bfloat16)
    return _sums(bfloat16_patches_of(pictures, size, stride), weights, -1, 1), (pictures, weights)


def _backward(
    size: int, stride: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array | None, jax.Array]:
    pictures, weights = kept
    patches = bfloat16_patches_of(pictures, size, stride)
    features = len(weights)
    # on CPU a product with the identity turns (outputs x F) into (F x outputs) faster than a transposition
    turned = _sums(jnp.eye(features), gradient.reshape(-1, features), 1, 1)
    by_weights = jax.lax.optimization_barrier(_sums(turned, patches.reshape(-1, patches.shape[-1]), 1, 0))
    if pictures.dtype == jnp.uint8:
        return None, by_weights
    to_pictures = jax.linear_transpose(
        partial(patches_of, size=size, stride=stride), jax.ShapeDtypeStruct(pictures.shape, jnp.float32)
    )
    return to_pictures(_sums(gradient, weights, -1, 0))[0], by_weights


_bfloat16_convolution.defvjp(_forward, _backward)


def _as_matrix(kernel: jax.Array) -> jax.Array:
    """The filters as ``f32[F, k * k * C]``."""
    return kernel.reshape(-1, kernel.shape[-1]).T


def _sums(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """Products over one axis of numbers rounded to bfloat16, added up in float32."""
    axes = (((axis_of_a % a.ndim,), (axis_of_b,)), ((), ()))
    return jax.lax.dot_general(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), axes, preferred_element_type=jnp.float32)


class Conv(nnx.Module):
    """A convolution with bias, ``[..., H, W, C] -> f32[..., H', W', F]``.

    Args:
      channels: C.
      features: F.
      size: rows and columns of a filter (k).
      stride: pixels between two outputs.
      padding: VALID for none; SAME for zeros all around, so that with stride 1 the picture keeps its size (odd k).
      kernel_init: of ``f32[k, k, C, F]``.
      precision: as in ``convolve``.
      rngs: draws the filters.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        size: int,
        *,
        stride: int,
        padding: Literal["VALID", "SAME"],
        kernel_init: nnx.Initializer,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (size, size, channels, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features))
        self._stride = stride
        self._around = (size - 1) // 2 if padding == "SAME" else 0
        self._precision: Precision = precision

    def __call__(self, pictures: jax.Array) -> jax.Array:
        around = (self._around, self._around)
        wide = padded(pictures, around, around) if self._around else pictures
        return convolve(wide, self.kernel[...], self._stride, self._precision) + self.bias[...]
