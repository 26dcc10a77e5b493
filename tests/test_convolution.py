"""Convolution as a product over patches: XLA's own is the oracle, for values and for gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxpg.convolution import Conv, convolve
from jaxpg.policies import PolicyConfig, make_policy

CASES = [  # picture, filter size, stride, filters
    ((84, 84, 4), 8, 4, 32),  # the layers of Mnih et al. (2015)
    ((20, 20, 32), 4, 2, 64),
    ((9, 9, 64), 3, 1, 64),
    ((13, 10, 3), 5, 3, 7),  # a size that is no multiple of the stride, pixels left over
    ((11, 9, 2), 2, 3, 5),  # pixels that no output sees
    ((6, 7, 1), 6, 2, 1),  # one row of outputs
]


def _xla(picture, kernel, stride: int):
    return jax.lax.conv_general_dilated(
        picture[None], kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def _close(ours, xla) -> None:
    scale = np.abs(xla).max()
    np.testing.assert_allclose(ours / scale, xla / scale, atol=1e-5)


@pytest.mark.parametrize(("shape", "size", "stride", "features"), CASES)
def test_values_and_gradients_are_those_of_xla(shape: tuple[int, ...], size: int, stride: int, features: int) -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.normal(size=(5, *shape)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, shape[-1], features)), jnp.float32) / size

    def total(one, pictures, kernel):
        out = jax.vmap(lambda x: one(x, kernel, stride))(pictures)
        return jnp.sum(jnp.sin(out)), out

    gradients = [
        jax.jit(jax.grad(lambda x, k, one=one: total(one, x, k), argnums=(0, 1), has_aux=True))(pictures, kernel)
        for one in (convolve, _xla)
    ]
    jax.tree.map(_close, *gradients)


def test_bytes_stand_for_0_to_1() -> None:
    rng = np.random.default_rng(0)
    picture = jnp.asarray(rng.integers(0, 256, (20, 20, 4)), jnp.uint8)
    kernel = jnp.asarray(rng.normal(size=(8, 8, 4, 16)), jnp.float32)
    ours, xla = (
        jax.value_and_grad(lambda k, one=one, x=x: jnp.sum(jnp.sin(one(x, k, 4))))(kernel)
        for one, x in ((convolve, picture), (_xla, picture / jnp.float32(255)))
    )
    jax.tree.map(_close, ours, xla)


def test_every_member_of_a_population_has_filters_of_its_own() -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.normal(size=(3, 2, 12, 12, 2)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 4, 4, 2, 5)), jnp.float32)
    ours, xla = (
        jax.vmap(lambda xs, k, one=one: jax.vmap(lambda x: one(x, k, 2))(xs))(pictures, kernels)
        for one in (convolve, _xla)
    )
    _close(ours, xla)


def test_other_devices_use_xlas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, kernel = jnp.ones((12, 12, 4), jnp.uint8), jnp.full((4, 4, 4, 3), 0.5)
    on_cpu = convolve(picture, kernel, 2)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(lambda x: convolve(x, kernel, 2))(picture))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in str(jax.make_jaxpr(lambda x: convolve(x, kernel, 2))(picture))
    _close(on_cpu, convolve(picture, kernel, 2))


@pytest.mark.parametrize(("padding", "size", "stride"), [("VALID", 4, 2), ("SAME", 3, 1)])
def test_the_layer_is_flaxs(padding: str, size: int, stride: int) -> None:
    init = nnx.initializers.lecun_normal()
    layer = Conv(3, 6, size, stride=stride, padding=padding, kernel_init=init, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(6.0)
    flax = nnx.Conv(3, 6, (size, size), strides=stride, padding=padding, rngs=nnx.Rngs(1))
    nnx.update(flax, nnx.state(layer))
    picture = jax.random.normal(jax.random.key(0), (10, 8, 3))
    _close(layer(picture), flax(picture))


def test_a_network_that_takes_no_bytes_gets_their_share_of_255() -> None:
    for name in ("mlp", "dqn2013"):
        policy = make_policy(PolicyConfig(name=name), (36, 36, 4), 3, value=True)
        params = jax.jit(policy.init)(jax.random.key(0))
        picture = jnp.asarray(np.random.default_rng(0).integers(0, 256, (36, 36, 4)), jnp.uint8)
        apply = jax.jit(policy.apply)
        of_bytes, of_floats = apply(params, picture), apply(params, picture / jnp.float32(255))
        jax.tree.map(_close, of_bytes, of_floats)
