"""Convolution in the form that is fast on CPU: XLA's own is the oracle, for values and for gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxpg.core.types import MEMBERS, EmulatorNeeds, Params, PolicyFunctions
from jaxpg.kernel.act import make_act
from jaxpg.policies.convolution import Conv, Precision, convolve
from jaxpg.policies.networks import PolicyConfig, make_policy
from jaxpg.policies.observations import Observation

pytestmark = pytest.mark.usefixtures("quick_compilation")  # every comparison is to a tolerance
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


def _rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)


@pytest.mark.parametrize(("shape", "size", "stride", "features"), CASES)
def test_bfloat16_is_xlas_convolution_of_rounded_operands(
    shape: tuple[int, ...], size: int, stride: int, features: int
) -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.normal(size=(2, 3, *shape)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, shape[-1], features)), jnp.float32) / size
    by_outputs = jnp.asarray(rng.normal(size=(2, 3, *_xla(pictures[0, 0], kernel, stride).shape)), jnp.float32)

    def all_xla(pictures, kernel):
        return jax.vmap(jax.vmap(lambda x, k: _xla(x, k, stride), (0, None)), (0, None))(pictures, kernel)

    def values_and_gradients(function, pictures, kernel, by_outputs):
        values, pullback = jax.vjp(function, pictures, kernel)
        return values, *pullback(by_outputs)

    both = jax.jit(values_and_gradients, static_argnums=0)
    ours, *gradients = both(lambda x, k: convolve(x, k, stride, "bfloat16"), pictures, kernel, by_outputs)
    rounded = (_rounded(x) for x in (pictures, kernel, by_outputs))  # out here, where XLA cannot leave it out
    jax.tree.map(_close, (ours, *gradients), both(all_xla, *rounded))
    assert ours.dtype == jnp.float32
    assert np.abs(ours - all_xla(pictures, kernel)).max() > 1e-4, "nothing was rounded"


def test_bytes_are_exact_in_bfloat16() -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.integers(0, 256, (3, 20, 20, 4)), jnp.uint8)
    kernel = jnp.asarray(rng.normal(size=(8, 8, 4, 16)), jnp.float32)
    ours, xla = (
        jax.value_and_grad(lambda k, one=one: jnp.sum(one(k) ** 2))(kernel)
        for one in (
            lambda k: convolve(pictures, k, 4, "bfloat16"),
            lambda k: jax.vmap(lambda x: _xla(x.astype(jnp.float32), _rounded(k / 255), 4))(pictures),
        )
    )
    _close(ours[0], xla[0])
    np.testing.assert_allclose(ours[1], xla[1], atol=0.01 * np.abs(xla[1]).max())  # outputs' gradient is rounded, too


def test_every_product_of_bfloat16_and_of_its_gradient_is_of_bfloat16() -> None:
    """One of float32 among them would be made in float32, at a quarter of the speed."""
    pictures, kernel = jnp.ones((3, 12, 12, 4)), jnp.ones((4, 4, 4, 5))
    loss = jax.grad(lambda x, k: convolve(x, k, 2, "bfloat16").sum(), argnums=(0, 1))
    products = [e for e in jax.make_jaxpr(loss)(pictures, kernel).eqns if e.primitive.name == "dot_general"]
    assert len(products) == 4, "outputs, gradient turned around, gradients of filters and pictures"
    for product in products:
        assert [x.aval.dtype for x in product.invars] == [jnp.bfloat16] * 2
        assert product.outvars[0].aval.dtype == jnp.float32


def test_bytes_stand_for_0_to_1() -> None:
    rng = np.random.default_rng(0)
    picture = jnp.asarray(rng.integers(0, 256, (20, 20, 4)), jnp.uint8)
    kernel = jnp.asarray(rng.normal(size=(8, 8, 4, 16)), jnp.float32)
    ours, xla = (
        jax.value_and_grad(lambda k, one=one, x=x: jnp.sum(jnp.sin(one(x, k, 4))))(kernel)
        for one, x in ((convolve, picture), (_xla, picture / jnp.float32(255)))
    )
    jax.tree.map(_close, ours, xla)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_member_of_a_population_has_filters_of_its_own(precision: Precision, named: bool) -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.normal(size=(3, 2, 12, 12, 2)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 4, 4, 2, 5)), jnp.float32)
    if precision == "bfloat16":
        pictures, kernels = _rounded(pictures), _rounded(kernels)
    ours = jax.vmap(lambda xs, k: convolve(xs, k, 2, precision), axis_name=MEMBERS if named else None)(
        pictures, kernels
    )
    _close(ours, jax.vmap(lambda xs, k: jax.vmap(lambda x: _xla(x, k, 2))(xs))(pictures, kernels))


def test_members_bytes_stand_for_0_to_1() -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.integers(0, 256, (3, 12, 12, 2)), jnp.uint8)
    kernels = jnp.asarray(rng.normal(size=(3, 4, 4, 2, 5)), jnp.float32)
    ours = jax.vmap(lambda x, k: convolve(x, k, 2), axis_name=MEMBERS)(pictures, kernels)
    _close(ours, jax.vmap(lambda x, k: _xla(x / jnp.float32(255), k, 2))(pictures, kernels))


@pytest.mark.parametrize(("members", "convolutions"), [(1, 1), (2, 0), (4, 0)])
def test_a_population_acts_by_products_and_one_policy_by_convolutions(members: int, convolutions: int) -> None:
    """XLA's convolutions of many filters take half as long again (docs/performance.md)."""
    observation = Observation(EmulatorNeeds(kind="pixels"), encode=lambda x: x, decode=lambda x: x)

    def apply(params: Params, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = convolve(seen, params["kernel"], 1)[..., 0, 0, :]
        return logits, jnp.zeros(logits.shape[:-1])

    policy = PolicyFunctions(init=lambda key: {}, apply=apply, has_value=False)
    act = make_act(policy, observation, (0, 1, 2), 4)
    population = {"kernel": jnp.ones((members, 4, 4, 2, 3))}
    traced = jax.make_jaxpr(act, static_argnums=(2, 3))(population, np.zeros((4, 4, 4, 2), np.uint8), None, None, 0, 0)
    assert str(traced).count("conv_general_dilated[") == convolutions


def test_one_picture_at_a_time_has_its_filters_gradient_in_one_convolution() -> None:
    """Each picture's own, then added, would take many times as long."""
    loss = jax.grad(lambda k: jax.vmap(lambda x: convolve(x, k, 2))(jnp.ones((6, 12, 12, 4))).sum())
    traced = jax.make_jaxpr(loss)(jnp.ones((4, 4, 4, 5)))
    products = [e for e in traced.eqns if e.primitive.name == "conv_general_dilated"]
    assert [e.outvars[0].aval.shape for e in products] == [(6, 5, 5, 5), (4, 4, 4, 5)]
    assert all(e.params["batch_group_count"] == e.params["feature_group_count"] == 1 for e in products)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_other_devices_use_xlas_own(precision: Precision, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.integers(0, 256, (2, 3, 12, 12, 4)) / 255, jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(4, 4, 4, 3)), jnp.float32)

    def traced_and_made():
        gradient = jax.grad(lambda x, k: jnp.sum(convolve(x, k, 2, precision) ** 2), argnums=(0, 1))  # traced anew
        return str(jax.make_jaxpr(gradient)(pictures, kernel)), gradient(pictures, kernel)

    here, on_cpu = traced_and_made()
    assert ("dot_general" in here, "conv_general_dilated" in here) == (True, precision == "float32")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    there, elsewhere = traced_and_made()
    assert ("dot_general" in there, "conv_general_dilated" in there) == (False, True)
    assert ("bf16" in there) == (precision == "bfloat16")
    for ours, xla in zip(on_cpu, elsewhere, strict=True):
        np.testing.assert_allclose(ours, xla, atol=tolerance * np.abs(xla).max())


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
