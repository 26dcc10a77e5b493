"""Policies: Flax modules that return logits and a value for ONE observation.

A module with the attribute ``takes_batches`` accepts any number of observations, on leading axes. ``make_policy`` vmaps
the other modules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field

from jaxpg.core.errors import UserError
from jaxpg.core.registry import Registry
from jaxpg.core.types import Outputs, Params, PolicyFunctions
from jaxpg.core.user_modules import own_code
from jaxpg.core.validation import STRICT, Name
from jaxpg.policies.convolution import Conv, Precision
from jaxpg.policies.observations import Observation, unit_scale

Width = Annotated[int, Field(ge=1, le=65_536)]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The network."""

    __pydantic_config__ = STRICT

    name: Name = "mlp"
    """linear, mlp, small_conv, conv3x3, compact, dqn2013 or nature."""
    hidden: Annotated[tuple[Width, ...], Field(max_length=64)] = (200,)
    """Units of each hidden layer (mlp only)."""
    bias: bool = True
    """Whether layers have a bias (linear and mlp only)."""
    layer_norm: bool = False
    """Whether each hidden layer is normalised before its ReLU (mlp only; Ba et al. 2016)."""
    precision: Precision = "float32"
    """Type to which the operands of convolutions are rounded, float32 or bfloat16 (not for linear and mlp). bfloat16 is
    faster on processors with bfloat16 instructions and slower on others; sums, weights and the optimizer stay float32.
    """


def _orthogonal(scale: float) -> nnx.Initializer:
    return nnx.initializers.orthogonal(scale)


RELU_GAIN = 2**0.5
"""Gain of orthogonal initialisation that preserves the variance through ReLU layers (Saxe et al. 2014; He et al.
2015)."""

MOST_DEVIATIONS = 10.0
"""Standardised inputs are clipped to this many standard deviations, so that a rare flash does not drown all else."""


class Heads(nnx.Module):
    """Linear heads for logits and a value. Initial logits are almost 0, so that the first policy is near uniform."""

    def __init__(self, features: int, num_actions: int, value: bool, *, bias: bool = True, rngs: nnx.Rngs):
        self.logits = nnx.Linear(features, num_actions, use_bias=bias, kernel_init=_orthogonal(0.01), rngs=rngs)
        self.value = nnx.Linear(features, 1, kernel_init=_orthogonal(1.0), rngs=rngs) if value else None

    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = jnp.zeros(features.shape[:-1]) if self.value is None else self.value(features)[..., 0]
        return self.logits(features), value


class Linear(nnx.Module):
    """One weight matrix from the flattened observation to the logits.

    The matrix is ``f32[A, D]``, so that the weights of one action lie together in memory. A population of such
    policies, each with its own large matrix, then acts a third faster on CPU than with ``f32[D, A]``.
    """

    def __init__(self, shape: tuple[int, ...], num_actions: int, value: bool, config: PolicyConfig, rngs: nnx.Rngs):
        features = prod(shape)
        self.kernel = nnx.Param(_orthogonal(0.01)(rngs.params(), (num_actions, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(num_actions)) if config.bias else None
        self.value = nnx.Linear(features, 1, kernel_init=_orthogonal(1.0), rngs=rngs) if value else None

    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = observation.reshape(-1)
        logits = self.kernel[...] @ x
        value = jnp.zeros(()) if self.value is None else self.value(x)[0]
        return logits if self.bias is None else logits + self.bias[...], value


def _flat(observations: jax.Array, axes: int) -> jax.Array:
    """Flattens observations, whose shape has ``axes`` axes: ``[..., *shape] -> [..., D]``."""
    return observations.reshape(*observations.shape[: observations.ndim - axes], -1)


class MLP(nnx.Module):
    """ReLU layers on the flattened observation."""

    takes_batches = True

    def __init__(self, shape: tuple[int, ...], num_actions: int, value: bool, config: PolicyConfig, rngs: nnx.Rngs):
        sizes = [prod(shape), *config.hidden]
        self.layers = nnx.List(
            nnx.Linear(a, b, use_bias=config.bias, kernel_init=_orthogonal(RELU_GAIN), rngs=rngs)
            for a, b in pairwise(sizes)
        )
        self.norms = nnx.List(nnx.LayerNorm(b, rngs=rngs) if config.layer_norm else None for b in config.hidden)
        self.heads = Heads(sizes[-1], num_actions, value, bias=config.bias, rngs=rngs)
        self._observation_axes = len(shape)

    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = _flat(observations, self._observation_axes)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x)
            x = nnx.relu(x if norm is None else norm(x))
        return self.heads(x)


class _Conv(nnx.Module):
    """Convolutions, one hidden layer and the heads: the base of the networks below."""

    takes_bytes = True  # the first convolution scales bytes, by scaling its weights
    takes_batches = True
    layers: ClassVar[tuple[tuple[int, int, int], ...]]  # (features, kernel, stride)
    padding: ClassVar[Literal["VALID", "SAME"]] = "VALID"
    hidden_units: ClassVar[int]
    activate: ClassVar[bool] = True
    pool: ClassVar[bool] = False

    def __init__(self, shape: tuple[int, ...], num_actions: int, value: bool, config: PolicyConfig, rngs: nnx.Rngs):
        channels = shape[2] if len(shape) == 3 else 1
        convolutions = []
        side = min(shape[:2])
        for features, kernel, stride in self.layers_for(shape):
            side = (side - kernel) // stride + 1 if self.padding == "VALID" else side
            if side < 1:
                raise UserError(
                    f"policy.name: {config.name!r} needs a larger picture than {shape[0]} x {shape[1]}; "
                    "use linear or mlp, or larger observation.height and observation.width"
                )
            convolutions.append(
                Conv(
                    channels,
                    features,
                    kernel,
                    stride=stride,
                    padding=self.padding,
                    kernel_init=_orthogonal(RELU_GAIN),
                    precision=config.precision,
                    rngs=rngs,
                )
            )
            channels = features
        self.convolutions = nnx.List(convolutions)
        picture = jax.ShapeDtypeStruct(shape if len(shape) == 3 else (*shape, 1), jnp.float32)
        flat = jax.eval_shape(self._trunk, picture)
        self.hidden = nnx.Linear(flat.size, self.hidden_units, kernel_init=_orthogonal(RELU_GAIN), rngs=rngs)
        self.heads = Heads(self.hidden_units, num_actions, value, rngs=rngs)
        self._has_channels = len(shape) == 3

    def layers_for(self, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
        """The convolutions for pictures of this shape: features, kernel and stride of each."""
        del shape
        return self.layers

    def _trunk(self, x: jax.Array) -> jax.Array:
        for convolution in self.convolutions:
            x = convolution(x)
            x = nnx.relu(x) if self.activate else x
        if self.pool:
            x = nnx.max_pool(x, (2, 2), (2, 2))
        return _flat(x, 3)

    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = observations if self._has_channels else observations[..., None]
        return self.heads(nnx.relu(self.hidden(self._trunk(x))))


class Conv3x3(_Conv):
    """Two 3x3 convolutions of 32 filters without activation, 2x2 max-pool, 32 ReLU units."""

    layers = ((32, 3, 1), (32, 3, 1))
    padding = "SAME"
    hidden_units = 32
    activate = False
    pool = True


class SmallConv(_Conv):
    """For pictures of any small size: 3x3 convolutions, 128 ReLU units.

    One convolution of 16 filters keeps the picture's size, as in Young and Tian (2019), section 3. Before it,
    convolutions of 32 filters and stride 2 halve a larger picture until it has at most 16 rows and columns.
    """

    padding = "SAME"
    hidden_units = 128

    def layers_for(self, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
        halvings = max(0, (max(shape[:2]) - 1).bit_length() - 4)
        return ((32, 3, 2),) * halvings + ((16, 3, 1),)


class Compact(_Conv):
    """For ``stack42`` on a processor: two fifths of the work of ``dqn2013`` on ``stack84``.

    The filters of the first layer overlap. Without overlap, they learned less (docs/lab/breakout-convolutions.md).
    """

    layers = ((32, 5, 3), (64, 3, 2))
    hidden_units = 256


class DQN2013(_Conv):
    """The smaller network of Mnih et al. (2013), section 5.1."""

    layers = ((16, 8, 4), (32, 4, 2))
    hidden_units = 256


class Nature(_Conv):
    """The network of Mnih et al. (2015), section Methods, "Model architecture"."""

    layers = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    hidden_units = 512


POLICIES: Registry[Callable[..., nnx.Module]] = Registry(
    "policy.name",
    {
        "linear": Linear,
        "mlp": MLP,
        "small_conv": SmallConv,
        "conv3x3": Conv3x3,
        "compact": Compact,
        "dqn2013": DQN2013,
        "nature": Nature,
    },
)
"""Policies by name."""


def make_policy(config: PolicyConfig, shape: tuple[int, ...], num_actions: int, value: bool) -> PolicyFunctions:
    """Builds the pure functions of the policy named in ``config``.

    The policy is the Flax module class registered under ``config.name``. It is called as ``module_class(shape,
    num_actions, value, config, rngs)``. An instance maps one observation ``f32[*shape]`` to ``(logits f32[A], value
    f32[])``. Two optional class attributes say what an instance accepts besides: ``takes_batches`` for any number of
    observations on leading axes, and ``takes_bytes`` for ``u8`` observations whose bytes stand for [0, 1].

    Args:
      config: the policy's name and options.
      shape: shape of one observation, as ``Observation.decode`` gives it.
      num_actions: the number of actions, A.
      value: whether the policy also estimates the return-to-go.

    Returns:
      ``init(key) -> params``, a nested dict of arrays, and ``apply(params, observations) ->
      (logits f32[..., A], value f32[...])``. The value is 0 without a value head.

    Raises:
      UserError: the name is unknown, a network with convolutions gets an observation that is not a picture, or the
        user's own class fails, or returns something else than logits and a value.
    """
    module_class, what = POLICIES[config.name], f"policy.name: {config.name!r}"
    if isinstance(module_class, type) and issubclass(module_class, _Conv) and len(shape) not in (2, 3):
        raise UserError(
            f"policy.name: {config.name!r} needs a picture, but the observation is a vector; use linear or mlp"
        )

    def build(key: jax.Array) -> nnx.Module:
        return module_class(shape, num_actions, value, config, nnx.Rngs(key))

    takes_bytes, takes_batches = (getattr(module_class, name, False) for name in ("takes_bytes", "takes_batches"))
    with own_code(what, module_class, "__init__(self, shape, num_actions, value, config, rngs)"):
        parts: Any = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))), nnx.Param, ...)
    graphdef, weights, others = parts
    _check_state(what, weights, others)

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(key), nnx.Param))

    def outputs(params: Params, observations: jax.Array) -> Any:
        module = nnx.merge(graphdef, params)
        for _ in range(0 if takes_batches else observations.ndim - len(shape)):
            module = jax.vmap(module)
        return module(observations if takes_bytes else unit_scale(observations))

    def apply(params: Params, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, value = outputs(params, observations)
        return logits.astype(jnp.float32), value.astype(jnp.float32)

    batch = (2,) if takes_batches else ()
    given = jax.ShapeDtypeStruct((*batch, *shape), jnp.float32)
    call = f"__call__(self, {'observations' if takes_batches else 'observation'})"
    with own_code(what, module_class, call if isinstance(module_class, type) else ""):
        returned = jax.eval_shape(outputs, nnx.to_pure_dict(weights), given)
    _check_outputs(what, returned, {"logits": (*batch, num_actions), "value": batch})
    return PolicyFunctions(init=init, apply=apply, has_value=value)


def _check_state(what: str, weights: Any, others: Any) -> None:
    """Raises UserError unless the module has weights, and nothing ``others`` besides."""
    if not jax.tree.leaves(weights):
        raise UserError(f"{what}: the module has no weights (nnx.Param), so there is nothing to learn")
    if jax.tree.leaves(others):
        names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(others)]
        are = "are" if names[1:] else "is"
        raise UserError(
            f"{what}: {', '.join(names)} {are} no nnx.Param; a policy is a function of its weights alone, without "
            "dropout, batch statistics or counters"
        )


def _check_outputs(what: str, outputs: object, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError unless ``outputs`` is one array of floating-point numbers for each of the named shapes."""
    if not isinstance(outputs, tuple | list) or len(outputs) != len(shapes):
        kind = f"{len(outputs)} things" if isinstance(outputs, tuple | list) else f"one {type(outputs).__name__}"
        kind = "one array" if isinstance(outputs, jax.ShapeDtypeStruct) else kind
        raise UserError(f"{what}: a policy returns {' and '.join(shapes)} (a pair of arrays), not {kind}")
    for output, (name, shape) in zip(outputs, shapes.items(), strict=True):
        found = getattr(output, "shape", None), getattr(output, "dtype", type(output).__name__)
        if found[0] != shape or not jnp.issubdtype(found[1], jnp.floating):
            raise UserError(f"{what}: the {name} must be floats of shape {shape}, not {found[1]} of shape {found[0]}")


def with_normalizer(policy: PolicyFunctions, shape: tuple[int, ...]) -> PolicyFunctions:
    """Standardises the policy's input: ``(observation - mean) / std``, clipped to [-10, 10].

    An input that has never changed becomes 0. When such an input changes for the first time, the clip bounds it.

    Args:
      policy: a policy from ``make_policy``.
      shape: shape of one observation.

    Returns:
      Functions whose params are ``{"policy": ..., "mean": f32[*shape], "std": f32[*shape]}``. The learner sets the mean
      and the standard deviation.
    """

    def init(key: jax.Array) -> Params:
        return {"policy": policy.init(key), "mean": jnp.zeros(shape), "std": jnp.ones(shape)}

    def apply(params: Params, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        inputs = standardised(params, observations)
        return policy.apply(params["policy"], jnp.clip(inputs, -MOST_DEVIATIONS, MOST_DEVIATIONS))

    return PolicyFunctions(init=init, apply=apply, has_value=policy.has_value)


def with_equal_logits(policy: PolicyFunctions) -> PolicyFunctions:
    """Makes all actions equally probable: the uniform random player, with the params and values of ``policy``."""

    def apply(params: Params, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, value = policy.apply(params, observations)
        return jnp.zeros_like(logits), value

    return policy._replace(apply=apply)


def standardised(params: Params, observations: jax.Array) -> jax.Array:
    """Computes ``(observation - mean) / std`` with the params of ``with_normalizer``, before the clip."""
    mean, std = jax.lax.stop_gradient((params["mean"], params["std"]))
    return (unit_scale(observations) - mean) / std


def on_tape(policy: PolicyFunctions, observation: Observation) -> Callable[[Params, jax.Array], Outputs]:
    """Makes the policy accept n encoded observations of a tape: ``(params, [n, ...]) -> (logits f32[n, A], value
    f32[n])``.
    """
    return lambda params, encoded: policy.apply(params, jax.vmap(observation.decode)(encoded))
