"""The networks: shapes, sizes counted by hand, and forward passes written in numpy."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxpg.core.errors import UserError
from jaxpg.policies.networks import POLICIES, Heads, PolicyConfig, make_policy, with_normalizer

pytestmark = pytest.mark.usefixtures("quick_compilation")

PICTURE, VECTOR = (84, 84, 4), (6,)
SMALLEST = (36, 36, 4)
"""The smallest picture of which every convolution leaves something."""
CASES = [(name, SMALLEST) for name in POLICIES] + [
    ("linear", VECTOR),
    ("mlp", VECTOR),
    ("conv3x3", (20, 20)),
    ("small_conv", (7, 5, 3)),
]


def _params(policy, seed: int = 0):
    return jax.jit(policy.init)(jax.random.key(seed))


def _shapes(policy):
    return jax.eval_shape(policy.init, jax.random.key(0))


def _size(params) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_policy_starts_near_uniform_and_has_a_value_only_when_asked(name: str, shape: tuple[int, ...]) -> None:
    observation = jnp.asarray(np.random.default_rng(0).uniform(size=shape), jnp.float32)
    with_value = make_policy(PolicyConfig(name=name), shape, 3, value=True)
    logits, value = jax.jit(with_value.apply)(_params(with_value), observation)
    assert logits.shape == (3,)
    assert value.shape == ()
    assert value != 0
    assert jnp.abs(jax.nn.softmax(logits) - 1 / 3).max() < 0.1
    without = make_policy(PolicyConfig(name=name), shape, 3, value=False)
    shapes = _shapes(with_value)
    head = _size(shapes.get("heads", shapes)["value"])
    assert _size(_shapes(with_value)) - _size(_shapes(without)) == head
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), _shapes(without))
    assert jax.jit(without.apply)(zeros, observation)[1] == 0


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_several_observations_are_judged_one_by_one(name: str, shape: tuple[int, ...]) -> None:
    policy = make_policy(PolicyConfig(name=name), shape, 3, value=True)
    several = with_normalizer(policy, shape)
    observations = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 3, *shape)), jnp.float32)
    params = jax.jit(several.init)(jax.random.key(0))
    params["mean"] += jnp.arange(shape[-1])
    logits, value = jax.jit(several.apply)(params, observations)
    for place in np.ndindex(2, 3):
        one_logits, one_value = jax.jit(several.apply)(params, observations[place])
        np.testing.assert_allclose(logits[place], one_logits, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(value[place], one_value, rtol=1e-3, atol=1e-5)


def test_standardised_inputs_are_clipped() -> None:
    policy = with_normalizer(make_policy(PolicyConfig(name="linear"), VECTOR, 3, value=False), VECTOR)
    params = jax.jit(policy.init)(jax.random.key(0))
    params |= {"mean": jnp.full(6, 0.5), "std": jnp.full(6, 1e-4)}
    moved = jnp.array([0.5, 0.5005, 0.4995, 1.0, 0.0, 1e30])
    logits, _ = jax.jit(policy.apply)(params, moved)
    by_hand = params["policy"]["kernel"] @ jnp.array([0.0, 5.0, -5.0, 10.0, -10.0, 10.0])
    np.testing.assert_allclose(logits, by_hand, rtol=1e-2, atol=1e-4)


def test_compact_has_two_convolutions_and_256_units_on_pictures_of_42_x_42() -> None:
    policy = make_policy(PolicyConfig(name="compact"), (42, 42, 4), 6, value=False)
    assert _size(_shapes(policy)) == (5 * 5 * 4 + 1) * 32 + (3 * 3 * 32 + 1) * 64 + (6 * 6 * 64 + 1) * 256 + 257 * 6


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("nature", (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64 + (3136 + 1) * 512 + 513 * 6),
        ("dqn2013", (8 * 8 * 4 + 1) * 16 + (4 * 4 * 16 + 1) * 32 + (2592 + 1) * 256 + 257 * 6),
    ],
)
def test_the_published_networks_have_their_published_size(name: str, parameters: int) -> None:
    policy = make_policy(PolicyConfig(name=name), PICTURE, 6, value=False)
    assert _size(_shapes(policy)) == parameters


def test_the_notebooks_networks_have_their_size() -> None:
    mlp = make_policy(PolicyConfig(name="mlp", hidden=(200,), bias=False), (80, 80), 2, value=False)
    assert _size(_shapes(mlp)) == 6_400 * 200 + 200 * 2
    conv = make_policy(PolicyConfig(name="conv3x3"), (80, 80), 2, value=False)
    assert _size(_shapes(conv)) == 9 * 32 + 32 + 9 * 32 * 32 + 32 + 40 * 40 * 32 * 32 + 32 + 33 * 2
    linear = make_policy(PolicyConfig(name="linear", bias=False), (33_600,), 9, value=False)
    assert _size(_shapes(linear)) == 33_600 * 9


@pytest.mark.parametrize("bias", [False, True])
def test_linear_in_numpy(bias: bool) -> None:
    policy = make_policy(PolicyConfig(name="linear", bias=bias), (2, 3), 4, value=True)
    params = jax.tree.map(lambda leaf: leaf + 0.5, _params(policy))
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    logits, value = jax.jit(policy.apply)(params, jnp.asarray(x))
    weights = np.asarray(params["kernel"], float)
    by_hand = [(weights[a] * x.reshape(-1)).sum() + (0.5 if bias else 0.0) for a in range(4)]
    np.testing.assert_allclose(logits, by_hand, rtol=1e-5)
    assert ("bias" in params) == bias
    np.testing.assert_allclose(value, (x.reshape(-1) @ params["value"]["kernel"] + 0.5)[0], rtol=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_in_numpy(layer_norm: bool) -> None:
    policy = make_policy(PolicyConfig(name="mlp", hidden=(7, 5), layer_norm=layer_norm), (2, 3), 4, value=True)
    params = _params(policy)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    logits, value = jax.jit(policy.apply)(params, jnp.asarray(x))
    h = x.reshape(-1).astype(float)
    for i in range(2):
        h = h @ np.asarray(params["layers"][i]["kernel"], float) + np.asarray(params["layers"][i]["bias"], float)
        if layer_norm:
            h = (h - h.mean()) / np.sqrt(h.var() + 1e-6)
        h = np.maximum(h, 0)
    heads = jax.tree.map(lambda w: np.asarray(w, float), params["heads"])
    np.testing.assert_allclose(logits, h @ heads["logits"]["kernel"] + heads["logits"]["bias"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, (h @ heads["value"]["kernel"] + heads["value"]["bias"])[0], rtol=1e-4, atol=1e-6)


def _convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    size, features = kernel.shape[0], kernel.shape[-1]
    rows, columns = (x.shape[0] - size) // stride + 1, (x.shape[1] - size) // stride + 1
    out = np.zeros((rows, columns, features))
    for i in range(rows):
        for j in range(columns):
            patch = x[i * stride : i * stride + size, j * stride : j * stride + size]
            out[i, j] = np.tensordot(patch, kernel, 3) + bias
    return out


def test_dqn2013_in_numpy() -> None:
    policy = make_policy(PolicyConfig(name="dqn2013"), SMALLEST, 4, value=False)
    params = _params(policy)
    x = np.random.default_rng(0).uniform(size=SMALLEST).astype(np.float32)
    logits, _ = jax.jit(policy.apply)(params, jnp.asarray(x))
    w = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    h = np.maximum(_convolve(x, w["convolutions"][0]["kernel"], w["convolutions"][0]["bias"], 4), 0)
    h = np.maximum(_convolve(h, w["convolutions"][1]["kernel"], w["convolutions"][1]["bias"], 2), 0)
    h = np.maximum(h.reshape(-1) @ w["hidden"]["kernel"] + w["hidden"]["bias"], 0)
    by_hand = h @ w["heads"]["logits"]["kernel"] + w["heads"]["logits"]["bias"]
    np.testing.assert_allclose(logits, by_hand, rtol=1e-3, atol=1e-5)


def test_conv3x3_in_numpy() -> None:
    policy = make_policy(PolicyConfig(name="conv3x3"), (6, 8), 4, value=False)
    params = _params(policy)
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    logits, _ = jax.jit(policy.apply)(params, jnp.asarray(x))
    w = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    h = x[..., None]
    for layer in range(2):  # same size, and nothing between the two
        padded = np.pad(h, ((1, 1), (1, 1), (0, 0)))
        h = _convolve(padded, w["convolutions"][layer]["kernel"], w["convolutions"][layer]["bias"], 1)
    h = h.reshape(3, 2, 4, 2, 32).max(axis=(1, 3))
    h = np.maximum(h.reshape(-1) @ w["hidden"]["kernel"] + w["hidden"]["bias"], 0)
    by_hand = h @ w["heads"]["logits"]["kernel"] + w["heads"]["logits"]["bias"]
    np.testing.assert_allclose(logits, by_hand, rtol=1e-3, atol=1e-5)


def test_small_conv_in_numpy() -> None:
    policy = make_policy(PolicyConfig(name="small_conv"), (20, 6, 3), 4, value=False)
    params = _params(policy)
    x = np.random.default_rng(0).normal(size=(20, 6, 3)).astype(np.float32)
    logits, _ = jax.jit(policy.apply)(params, jnp.asarray(x))
    w = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    h = x
    for layer, stride in enumerate((2, 1)):  # 20 rows are halved once, which leaves 10 x 3 pixels
        padded = np.pad(h, ((1, 1), (1, 1), (0, 0)))
        h = np.maximum(
            _convolve(padded, w["convolutions"][layer]["kernel"], w["convolutions"][layer]["bias"], stride), 0
        )
    assert h.shape == (10, 3, 16)
    h = np.maximum(h.reshape(-1) @ w["hidden"]["kernel"] + w["hidden"]["bias"], 0)
    by_hand = h @ w["heads"]["logits"]["kernel"] + w["heads"]["logits"]["bias"]
    np.testing.assert_allclose(logits, by_hand, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("side", "convolutions"), [(1, 1), (16, 1), (17, 2), (32, 2), (33, 3), (64, 3), (96, 4)])
def test_small_conv_halves_a_picture_until_it_has_at_most_16_rows_and_columns(side: int, convolutions: int) -> None:
    shapes = _shapes(make_policy(PolicyConfig(name="small_conv"), (side, 5, 3), 4, value=False))
    assert len(shapes["convolutions"]) == convolutions
    assert shapes["hidden"]["kernel"].shape[0] <= 16 * 16 * 5


def test_layers_before_a_relu_start_orthogonal_with_gain_sqrt_2() -> None:
    mlp = _params(make_policy(PolicyConfig(name="mlp", hidden=(7, 5)), (2, 9), 4, value=False))
    for layer in mlp["layers"].values():
        np.testing.assert_allclose(layer["kernel"].T @ layer["kernel"], 2 * np.eye(layer["bias"].size), atol=1e-5)
    conv = _params(make_policy(PolicyConfig(name="dqn2013"), (36, 36, 4), 4, value=False))
    for layer in [*conv["convolutions"].values(), conv["hidden"]]:
        kernel = np.asarray(layer["kernel"]).reshape(-1, layer["bias"].size)
        gram = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(gram, 2 * np.eye(len(gram)), atol=1e-5)


def test_a_convolution_needs_a_picture() -> None:
    with pytest.raises(UserError, match="policy.name: 'nature' needs a picture"):
        make_policy(PolicyConfig(name="nature"), (128,), 9, value=False)


def test_a_picture_too_small_for_the_convolutions_is_named() -> None:
    with pytest.raises(UserError, match="policy.name: 'nature' needs a larger picture than 30 x 84"):
        make_policy(PolicyConfig(name="nature"), (30, 84, 4), 9, value=False)


def test_names() -> None:
    with pytest.raises(UserError, match="did you mean 'nature'"):
        make_policy(PolicyConfig(name="natrue"), PICTURE, 3, value=False)


class _Mine(nnx.Module):
    """A user's policy, on whose outputs a mistake is put."""

    def __init__(self, shape, num_actions, value, config, rngs) -> None:
        self.heads = Heads(shape[0], num_actions, value, rngs=rngs)

    def __call__(self, observation):
        logits, value = self.heads(observation)
        return self.spoilt(logits, value)

    def spoilt(self, logits, value):
        return logits, value


class _WithDropout(_Mine):
    def __init__(self, shape, num_actions, value, config, rngs) -> None:
        super().__init__(shape, num_actions, value, config, rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)


class _WithoutWeights(_Mine):
    def __init__(self, shape, num_actions, value, config, rngs) -> None:
        self.heads = lambda x: (jnp.zeros(num_actions), jnp.zeros(()))


class _Listed(_Mine):
    def __init__(self, shape, num_actions, value, config, rngs) -> None:
        super().__init__(shape, num_actions, value, config, rngs)
        self.layers = [nnx.Linear(3, 3, rngs=rngs)]


class _Uncallable(nnx.Module):
    def __init__(self, shape, num_actions, value, config, rngs) -> None:
        self.layer = nnx.Linear(3, 3, rngs=rngs)


def lacking(self, x) -> None:
    pass


def _without(name, method=lacking) -> type[_Mine]:
    return type("_Lacks", (_Mine,), {name: method, "__module__": __name__})


def _line(words: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.startswith(words))


def _mine(spoilt) -> type[_Mine]:
    methods = {"spoilt": lambda self, logits, value: spoilt(logits, value), "__module__": __name__}
    return type("_Spoilt", (_Mine,), methods)


def _make_mine(monkeypatch, module_class):
    monkeypatch.setitem(POLICIES._entries, "mine", module_class)
    return make_policy(PolicyConfig(name="mine"), VECTOR, 3, value=True)


@pytest.mark.parametrize(
    ("module_class", "sentence"),
    [
        (_mine(lambda logits, value: logits), "a policy returns logits and value (a pair of arrays), not one array"),
        (_mine(lambda logits, value: (logits, value, value)), "(a pair of arrays), not 3 things"),
        (_mine(lambda logits, value: (logits[None], value)), "the logits must be floats of shape (3,), not float32 of"),
        (_mine(lambda logits, value: (logits, value[None])), "the value must be floats of shape (), not float32 of sh"),
        (
            _mine(lambda logits, value: (logits.astype(int), value)),
            "the logits must be floats of shape (3,), not int32",
        ),
        (_mine(lambda logits, value: 1 / 0), f"{__file__}:"),
        (_mine(lambda logits, value: 1 / 0), ": ZeroDivisionError: division by zero"),
        (
            _mine(lambda logits, value: logits if value > 0 else value),
            "; JAX traces this code, so choose with jax.",
        ),
        (_WithDropout, "drop.rngs.count, drop.rngs.key are no nnx.Param; a policy is a function of its weights alone"),
        (_WithoutWeights, "the module has no weights (nnx.Param), so there is nothing to learn"),
        (_Listed, "test_networks._Listed'>'; put layers into nnx.List([...]) or nnx.Dict(...)"),
        (
            _without("__init__"),
            f"{__file__}:{_line('def lacking(self, x)')}: _Lacks.__init__ takes (self, x), but must ",
        ),
        (_without("__init__"), "but must take (self, shape, num_actions, value, config, rngs)"),
        (_without("__call__", lambda self: 0), ": _Lacks.__call__ takes (self), but must take (self, observation)"),
        (_Uncallable, "_Uncallable has no method __call__(self, observation)"),
        (
            lambda observation: observation,
            "<lambda> takes (observation), but must take (shape, num_actions, value, config, rngs)",
        ),
    ],
)
def test_a_mistake_in_ones_own_policy_is_a_sentence_before_anything_is_made(
    module_class, sentence, monkeypatch
) -> None:
    with pytest.raises(UserError) as refused:
        _make_mine(monkeypatch, module_class)
    assert str(refused.value).startswith("policy.name: 'mine': ")
    assert sentence in str(refused.value)


def test_ones_own_policy_may_compute_in_bfloat16(monkeypatch) -> None:
    policy = _make_mine(monkeypatch, _mine(lambda logits, value: (logits.astype(jnp.bfloat16), value)))
    logits, _ = policy.apply(_params(policy), jnp.ones((5, *VECTOR)))
    assert (logits.dtype, logits.shape) == (jnp.float32, (5, 3))
