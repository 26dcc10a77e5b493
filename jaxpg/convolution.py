"""Convolution of one picture, in the form that is fast where it runs.

XLA's own convolutions are slow on CPU: the same sums as one matrix product over patches take two thirds of the time,
and the weights' gradient half (docs/performance.md). On every other device they are used as they are.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxpg.observations import unit_scale


def convolve(picture: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Cross-correlation of a picture with filters, as ``jax.lax.conv`` without padding.

    Args:
      picture: ``f32[H, W, C]``, or ``u8[H, W, C]`` whose bytes stand for [0, 1].
      kernel: ``f32[k, k, C, F]``.
      stride: pixels between two outputs.

    Returns:
      ``f32[(H - k) // stride + 1, (W - k) // stride + 1, F]``.
    """
    if jax.default_backend() == "cpu":
        return _product_over_patches(picture, kernel, stride)
    return jax.lax.conv_general_dilated(
        unit_scale(picture)[None], kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


@partial(jax.checkpoint, static_argnums=2, prevent_cse=False)
def _product_over_patches(picture: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A checkpoint, so that a gradient made later needs the picture and not its patches, many times as large."""
    size, _, _, features = kernel.shape
    patches = _patches(picture, size, stride)
    weights = kernel.reshape(-1, features).T
    if patches.dtype == jnp.uint8:  # bytes are laid out as bytes, a quarter of the memory, and scaled in the weights
        patches = jax.lax.optimization_barrier(patches).astype(jnp.float32)
        weights = weights / 255
    return jnp.einsum("ijp,fp->ijf", patches, _gradient_as_computed(weights))


@jax.custom_vjp
def _gradient_as_computed(weights: jax.Array) -> jax.Array:
    """The weights themselves. Their gradient is the product (outputs x patches), whose transpose the kernel wants; the
    barrier keeps XLA from computing (patches x outputs) instead, which takes twice as long.
    """
    return weights


_gradient_as_computed.defvjp(
    lambda weights: (weights, None), lambda _, gradient: (jax.lax.optimization_barrier(gradient),)
)


def _patches(picture: jax.Array, size: int, stride: int) -> jax.Array:
    """What each output sees: ``[(H - size) // stride + 1, (W - size) // stride + 1, size * size * C]``.

    Pixels are taken in runs of ``stride`` columns, which lie together in memory.
    """
    height, width, channels = picture.shape
    rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
    beyond = (size - 1) // stride  # blocks of stride pixels that the last output reaches into, beside its first
    block_rows, block_columns = rows + beyond, columns + beyond
    blocks = _cut_or_fill(picture, block_rows * stride, block_columns * stride)
    blocks = blocks.reshape(block_rows, stride, block_columns, stride * channels)
    pieces = []
    for y in range(size):
        row = blocks[y // stride : y // stride + rows, y % stride]
        for x in range(0, size, stride):
            run = min(stride, size - x) * channels
            pieces.append(row[:, x // stride : x // stride + columns, :run])
    return jnp.concatenate(pieces, axis=-1)


def _cut_or_fill(picture: jax.Array, height: int, width: int) -> jax.Array:
    cut = picture[:height, :width]
    return jnp.pad(cut, ((0, height - cut.shape[0]), (0, width - cut.shape[1]), (0, 0)))


class Conv(nnx.Module):
    """A convolution with bias on ONE picture, ``[H, W, C] -> f32[H', W', F]``.

    Args:
      channels: C.
      features: F.
      size: rows and columns of a filter (k).
      stride: pixels between two outputs.
      padding: VALID for none; SAME for zeros all around, so that with stride 1 the picture keeps its size (odd k).
      kernel_init: of ``f32[k, k, C, F]``.
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
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (size, size, channels, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features))
        self._stride = stride
        self._around = (size - 1) // 2 if padding == "SAME" else 0

    def __call__(self, picture: jax.Array) -> jax.Array:
        around = (self._around, self._around)
        padded = jnp.pad(picture, (around, around, (0, 0))) if self._around else picture
        return convolve(padded, self.kernel[...], self._stride) + self.bias[...]
