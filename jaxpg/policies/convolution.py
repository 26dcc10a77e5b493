"""Convolution of pictures, in the form that is fast on the device.

On CPU, XLA's convolution is fast for the outputs and for the gradient of the filters. It is slow for the gradient of
the pictures, and slow where each member of a population has its own filters (docs/performance.md). In these two cases
this module multiplies patches of the pictures with the filters. On all other devices it uses XLA's convolution alone.
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
"""The type to which the operands of products are rounded. Sums are float32 (Kalamkar et al. 2019, section 2)."""


def convolve(pictures: jax.Array, kernel: jax.Array, stride: int, precision: Precision = "float32") -> jax.Array:
    """Cross-correlates pictures with filters, like ``jax.lax.conv`` without padding.

    Args:
      pictures: ``f32[..., H, W, C]``, or ``u8[..., H, W, C]`` whose bytes stand for [0, 1].
      kernel: ``f32[k, k, C, F]``.
      stride: pixels between two neighbouring outputs.
      precision: the type to which pictures and filters are rounded. On devices other than the CPU, outputs are rounded
        too.

    Returns:
      ``f32[..., (H - k) // stride + 1, (W - k) // stride + 1, F]``.
    """
    if jax.default_backend() != "cpu":
        scaled = unit_scale(pictures)
        return _convolution(scaled.astype(precision), kernel.astype(precision), stride).astype(jnp.float32)
    if pictures.dtype == jnp.uint8:
        kernel = kernel / 255  # scaling the filters instead of the pictures lets bytes stay bytes
    if precision == "bfloat16":
        return _bfloat16_convolution(pictures, _as_matrix(kernel), len(kernel), stride)
    if _of_members():
        return patches_of(pictures, len(kernel), stride).astype(jnp.float32) @ _as_matrix(kernel).T
    outputs = _convolution(jax.lax.stop_gradient(pictures).astype(jnp.float32), kernel, stride)
    if pictures.dtype == jnp.uint8:
        return outputs
    return _by_pictures_too(outputs, pictures, kernel, pictures.shape[-3:], stride)


def _of_members() -> bool:
    """Whether the call is mapped over the members of a population, each of which has its own filters."""
    try:
        jax.lax.axis_size(MEMBERS)
    except NameError:  # there is no such axis around this call
        return False
    return True


def _convolution(pictures: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """XLA's convolution, without padding."""
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
    """Returns the outputs unchanged; their gradient with respect to the pictures (of ``shape``) is defined below.

    The gradient with respect to the filters remains XLA's, which sums over all pictures at once, even under ``vmap``.
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
    """A convolution of bfloat16 operands with a gradient of its own.

    JAX's gradient would multiply bfloat16 by float32, which XLA computes in float32. The gradient below multiplies
    bfloat16 and sums the weights' gradient over all leading axes at once. Pictures should therefore come as a batch:
    under ``vmap`` each picture would compute a separate gradient of the weights.

    Args:
      pictures: ``[..., H, W, C]``, floats or bytes.
      weights: ``f32[F, k * k * C]``, from ``_as_matrix``.
      size: rows and columns of a filter (k).
      stride: pixels between two neighbouring outputs.
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
    # on CPU a product with the identity matrix transposes (outputs x F) faster than a transposition does
    turned = _sums(jnp.eye(features), gradient.reshape(-1, features), 1, 1)
    by_weights = jax.lax.optimization_barrier(_sums(turned, patches.reshape(-1, patches.shape[-1]), 1, 0))
    if pictures.dtype == jnp.uint8:
        return None, by_weights
    return _pictures_of(_sums(gradient, weights, -1, 0), pictures.shape[-3:], size, stride), by_weights


_bfloat16_convolution.defvjp(_forward, _backward)


def _pictures_of(patches: jax.Array, shape: tuple[int, ...], size: int, stride: int) -> jax.Array:
    """Sums for each pixel over the patches that contain it, ``f32[..., H, W, C]``: the transpose of ``patches_of``."""
    pictures = jax.ShapeDtypeStruct((*patches.shape[:-3], *shape), jnp.float32)
    return jax.linear_transpose(partial(patches_of, size=size, stride=stride), pictures)(patches)[0]


def _as_matrix(kernel: jax.Array) -> jax.Array:
    """The filters as ``f32[F, k * k * C]``."""
    return kernel.reshape(-1, kernel.shape[-1]).T


def _sums(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """Contracts one axis of ``a`` with one axis of ``b``: operands are rounded to bfloat16, sums are float32."""
    axes = (((axis_of_a % a.ndim,), (axis_of_b,)), ((), ()))
    return jax.lax.dot_general(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), axes, preferred_element_type=jnp.float32)


class Conv(nnx.Module):
    """A convolution with bias, ``[..., H, W, C] -> f32[..., H', W', F]``.

    Args:
      channels: C.
      features: F.
      size: rows and columns of a filter (k).
      stride: pixels between two neighbouring outputs.
      padding: VALID for no padding; SAME for zeros all around, so that with stride 1 and odd k the picture keeps its
        size.
      kernel_init: initializer of the filters, ``f32[k, k, C, F]``.
      precision: as in ``convolve``.
      rngs: the random stream from which the filters are drawn.
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
