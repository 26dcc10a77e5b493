"""Convolution of pictures, in the form that is fast where it runs.

On CPU XLA's own is fast for the outputs and for the filters' gradient, but not for the gradient of pictures, nor where
each member of a population has filters of its own (docs/performance.md); these are products over patches. On every
other device XLA's own does it all.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxpg.core.types import MEMBERS
from jaxpg.policies.observations import unit_scale
from jaxpg.policies.patches import bfloat16_patches_of, padded, patches_of

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
    if jax.default_backend() != "cpu":
        scaled = unit_scale(pictures)
        return _convolution(scaled.astype(precision), kernel.astype(precision), stride).astype(jnp.float32)
    if pictures.dtype == jnp.uint8:
        kernel = kernel / 255  # bytes stay bytes for as long as they can, and are scaled here
    if precision == "bfloat16":
        return _bfloat16_convolution(pictures, _as_matrix(kernel), len(kernel), stride)
    if _of_members():
        return patches_of(pictures, len(kernel), stride).astype(jnp.float32) @ _as_matrix(kernel).T
    outputs = _convolution(jax.lax.stop_gradient(pictures).astype(jnp.float32), kernel, stride)
    if pictures.dtype == jnp.uint8:
        return outputs
    return _by_pictures_too(outputs, pictures, kernel, pictures.shape[-3:], stride)


def _of_members() -> bool:
    try:
        jax.lax.axis_size(MEMBERS)
    except NameError:  # there is no such axis around this call
        return False
    return True


def _convolution(pictures: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """XLA's own."""
    outputs = jax.lax.conv_general_dilated(
        pictures.reshape(-1, *pictures.shape[-3:]),
        kernel,
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return outputs.reshape(*pictures.shape[:-3], *outputs.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _by_pictures_too(
    outputs: jax.Array, pictures: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int
) -> jax.Array:
    """The outputs, which have their gradient by the pictures (of ``shape``) from here. So the one by the filters stays
    XLA's, which adds it up over all pictures at once, under ``vmap``, too.
    """
    return outputs


def _keep_kernel(
    outputs: jax.Array, pictures: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int
) -> tuple[jax.Array, jax.Array]:
    return outputs, kernel


def _back(
    shape: tuple[int, ...], stride: int, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    patches = jnp.einsum("...f,fp->...p", gradient, _as_matrix(kernel))
    return gradient, _pictures_of(patches, shape, len(kernel), stride), None


_by_pictures_too.defvjp(_keep_kernel, _back)


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
    return _pictures_of(_sums(gradient, weights, -1, 0), pictures.shape[-3:], size, stride), by_weights


_bfloat16_convolution.defvjp(_forward, _backward)


def _pictures_of(patches: jax.Array, shape: tuple[int, ...], size: int, stride: int) -> jax.Array:
    """Each pixel's sum over the patches it is in, ``f32[..., H, W, C]``: the transpose of ``patches_of``."""
    pictures = jax.ShapeDtypeStruct((*patches.shape[:-3], *shape), jnp.float32)
    return jax.linear_transpose(partial(patches_of, size=size, stride=stride), pictures)(patches)[0]


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
