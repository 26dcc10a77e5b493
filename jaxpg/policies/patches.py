"""Lays out the patches of a picture, one for each output of a convolution, for a matrix product."""

import jax
import jax.numpy as jnp


def patches_of(pictures: jax.Array, size: int, stride: int) -> jax.Array:
    """Patches ``[..., (H - size) // stride + 1, (W - size) // stride + 1, size * size * C]`` of ``[..., H, W, C]``.

    Pixels are copied in runs of ``stride`` columns, which lie together in memory. Integers (bytes, or words that pack
    several numbers) are laid out before they are converted, because converted numbers would be more to copy.
    """
    *lead, height, width, channels = pictures.shape
    rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
    beyond = (size - 1) // stride  # blocks of stride pixels that a patch covers after its first block
    block_rows, block_columns = rows + beyond, columns + beyond
    blocks = _cut_or_fill(pictures, block_rows * stride, block_columns * stride)
    blocks = blocks.reshape(*lead, block_rows, stride, block_columns, stride * channels)
    pieces = []
    for y in range(size):
        row = blocks[..., y // stride : y // stride + rows, y % stride, :, :]
        for x in range(0, size, stride):
            run = min(stride, size - x) * channels
            pieces.append(row[..., x // stride : x // stride + columns, :run])
    patches = jnp.concatenate(pieces, axis=-1)
    return jax.lax.optimization_barrier(patches) if jnp.issubdtype(patches.dtype, jnp.integer) else patches


def bfloat16_patches_of(pictures: jax.Array, size: int, stride: int) -> jax.Array:
    """``patches_of`` for ``bf16[..., H, W, C]`` or for bytes, as bfloat16, which represents bytes exactly."""
    if pictures.dtype == jnp.uint8:
        return patches_of(pictures, size, stride).astype(jnp.bfloat16)
    if pictures.shape[-1] % 2:
        return patches_of(pictures, size, stride)
    # XLA on CPU lays out pairs of numbers as single words in three quarters of the time (docs/performance.md)
    words = jax.lax.bitcast_convert_type(pictures.reshape(*pictures.shape[:-1], -1, 2), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(patches_of(words, size, stride), jnp.bfloat16)
    return halves.reshape(*halves.shape[:-2], -1)


def padded(pictures: jax.Array, rows: tuple[int, int], columns: tuple[int, int]) -> jax.Array:
    """Adds zeros before and after the rows and columns of ``[..., H, W, C]``."""
    return jnp.pad(pictures, (*((0, 0),) * (pictures.ndim - 3), rows, columns, (0, 0)))


def _cut_or_fill(pictures: jax.Array, height: int, width: int) -> jax.Array:
    """Cuts pictures to ``height`` and ``width``, or fills them with zeros at the end."""
    cut = pictures[..., :height, :width, :]
    return padded(cut, (0, height - cut.shape[-3]), (0, width - cut.shape[-2]))
