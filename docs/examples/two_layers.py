"""A policy of your own: a Flax module that acts on one observation. The kernel applies it to batches.

jaxpg train pong --imports ./two_layers.py --policy.name two_layers
jaxpg evaluate runs/mine --trust-imports
"""

from math import prod

import jax
from flax import nnx

import jaxpg
from jaxpg.policies.networks import Heads, PolicyConfig


@jaxpg.register_policy("two_layers")
class TwoLayers(nnx.Module):
    """A network with two hidden layers, which returns logits and a value."""

    def __init__(
        self,
        shape: tuple[int, ...],
        num_actions: int,
        value: bool,
        config: PolicyConfig,
        rngs: nnx.Rngs,
    ):
        self.first = nnx.Linear(prod(shape), 128, rngs=rngs)
        self.second = nnx.Linear(128, 64, rngs=rngs)
        self.heads = Heads(64, num_actions, value, rngs=rngs)

    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = nnx.relu(self.first(observation.reshape(-1)))
        return self.heads(nnx.relu(self.second(hidden)))


if __name__ == "__main__":
    config = jaxpg.load_recipe("pong", {"policy.name": "two_layers", "run.seed": 3})
    result = jaxpg.train(config, folder="runs/two_layers", bar=True)
    print(result.ended, result.return_mean_100)
