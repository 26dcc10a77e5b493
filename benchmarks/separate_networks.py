"""The networks of rejax's PPO, as a policy of jaxpg: logits and value have two hidden layers of 64 units each."""

from itertools import pairwise
from math import prod

import jax
from flax import nnx

import jaxpg
from jaxpg.policies.networks import PolicyConfig


class Layer(nnx.Module):
    """A linear layer whose matrix has its smaller side first, because its gradient is then faster on CPU."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        kernel = nnx.initializers.lecun_normal()(rngs.params(), (inputs, outputs))
        self._inputs_first = inputs < outputs
        self.kernel = nnx.Param(kernel if self._inputs_first else kernel.T)
        self.bias = nnx.Param(jax.numpy.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ (self.kernel[...] if self._inputs_first else self.kernel[...].T) + self.bias[...]


@jaxpg.register_policy("separate_networks")
class SeparateNetworks(nnx.Module):
    """Two networks that share nothing."""

    takes_batches = True

    def __init__(self, shape: tuple[int, ...], num_actions: int, value: bool, config: PolicyConfig, rngs: nnx.Rngs):
        self._axes = len(shape)
        self.actor = _layers((prod(shape), 64, 64, num_actions), rngs)
        self.critic = _layers((prod(shape), 64, 64, 1), rngs)

    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        flat = observations.reshape(*observations.shape[: observations.ndim - self._axes], -1)
        return _through(self.actor, flat), _through(self.critic, flat)[..., 0]


def _layers(sizes: tuple[int, ...], rngs: nnx.Rngs) -> nnx.List:
    return nnx.List(Layer(a, b, rngs) for a, b in pairwise(sizes))


def _through(layers: nnx.List, x: jax.Array) -> jax.Array:
    *hidden, last = layers
    for layer in hidden:
        x = nnx.swish(layer(x))
    return last(x)
