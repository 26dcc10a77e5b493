"""A state with every kind of leaf and what is said of it, for tests of checkpoints."""

from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpg.run.checkpoint_metadata import Metadata, UnfinishedEpisodes
from jaxpg.run.run_progress import RunProgress


class State(NamedTuple):
    params: dict
    optimizer: optax.OptState
    iteration: jax.Array
    key: jax.Array


def state(hidden: int = 5, seed: int = 0) -> State:
    """A state with every kind of leaf, and one optimizer step behind it so that no moment is 0."""
    generator = np.random.default_rng(seed)
    params = {
        "kernel": jnp.asarray(generator.normal(size=(3, hidden)), jnp.float32),
        "half": jnp.asarray(generator.normal(size=hidden), jnp.bfloat16),
        "layers": [{"bias": jnp.arange(hidden, dtype=jnp.int8)}, {"bias": jnp.ones(())}],
    }
    floats = {name: params[name] for name in ("kernel", "half")}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3))
    _, moments = optimizer.update(floats, optimizer.init(floats), floats)
    return State(params, moments, jnp.asarray(7, jnp.int32), jax.random.key(3))


def bits(tree) -> list[tuple]:
    plain = jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
    return [(x.dtype.name, x.shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(plain)]


METADATA = Metadata(
    progress=RunProgress(iteration=7, wall_seconds=0.1 + 0.2, metrics={"πong": 1.5}, last_returns=deque([-21.0, 3.5])),
    games=UnfinishedEpisodes.of("πong", np.arange(12, dtype=np.uint8).reshape(3, 4), None),
)
