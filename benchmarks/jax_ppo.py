"""PPO as one plain JAX program on EnvPool, as a peer for the speed of training.

The settings are those that Huang et al. publish for Atari ("The 37 implementation details of proximal policy
optimization", 2022): 128 agent steps of each lane, four epochs of four minibatches, the Nature network with one torso
for policy and value, Adam. As in purejaxrl and Stoix, advantages, epochs and minibatches are one compiled program. The
emulators run outside of it, and each agent step calls one compiled function that acts for all lanes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import envpool
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

AGENT_STEPS = 128
EPOCHS, MINIBATCHES = 4, 4
DISCOUNT, TRACE_DECAY = 0.99, 0.95
CLIP, VALUE_COEFFICIENT, ENTROPY_BONUS = 0.1, 0.5, 0.01
OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-4, eps=1e-5))


class Network(nn.Module):
    """Logits and value of stacked frames, by the network of Mnih et al. (2015)."""

    num_actions: int

    @nn.compact
    def __call__(self, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes bytes of shape (lanes, frames, rows, columns); returns (lanes, actions) and (lanes,)."""
        x = jnp.moveaxis(frames, 1, -1).astype(jnp.float32) / 255.0
        for channels, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = nn.relu(nn.Conv(channels, (size, size), (stride, stride), "VALID")(x))
        x = nn.relu(nn.Dense(512)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_actions)(x), nn.Dense(1)(x)[:, 0]


class Batch(NamedTuple):
    """What a rollout kept, each of shape (agent steps, lanes, ...)."""

    frames: jax.Array
    actions: jax.Array
    log_probabilities: jax.Array
    values: jax.Array
    rewards: jax.Array
    ends: jax.Array


@partial(jax.jit, static_argnums=0)
def act(network: Network, weights: Any, frames: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
    """Samples an action for each lane; returns it with its log probability, the value, and the next key."""
    key, here = jax.random.split(key)
    logits, values = network.apply(weights, frames)  # type: ignore[misc]
    actions = jax.random.categorical(here, logits)
    log_probabilities = jnp.take_along_axis(jax.nn.log_softmax(logits), actions[:, None], 1)[:, 0]
    return actions, log_probabilities, values, key


def advantages_of(batch: Batch, last_values: jax.Array) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016)."""

    def back(later: tuple[jax.Array, jax.Array], row: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, jax.Array], Any]:
        advantage, next_value = later
        reward, end, value = row
        error = reward + DISCOUNT * next_value * (1 - end) - value
        advantage = error + DISCOUNT * TRACE_DECAY * (1 - end) * advantage
        return (advantage, value), advantage

    start = (jnp.zeros_like(last_values), last_values)
    return jax.lax.scan(back, start, (batch.rewards, batch.ends, batch.values), reverse=True)[1]


def loss(weights: Any, network: Network, rows: Batch, advantages: jax.Array, targets: jax.Array) -> jax.Array:
    """The clipped objective, the value's error and the entropy bonus of one minibatch."""
    logits, values = network.apply(weights, rows.frames)  # type: ignore[misc]
    log_softmax = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_softmax, rows.actions[:, None], 1)[:, 0]
    ratio = jnp.exp(chosen - rows.log_probabilities)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    gain = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantages).mean()
    entropy = -(jnp.exp(log_softmax) * log_softmax).sum(-1).mean()
    return VALUE_COEFFICIENT * 0.5 * ((values - targets) ** 2).mean() - gain - ENTROPY_BONUS * entropy


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def learn(
    network: Network, weights: Any, state: Any, batch: Batch, last_frames: jax.Array, key: jax.Array
) -> tuple[Any, Any]:
    """All epochs over a batch; returns the new weights and the optimizer's state."""
    advantages = advantages_of(batch, network.apply(weights, last_frames)[1])  # type: ignore[index]
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (batch, advantages, advantages + batch.values))

    def update(carry: tuple[Any, Any], indices: jax.Array) -> tuple[tuple[Any, Any], None]:
        weights, state = carry
        gradient = jax.grad(loss)(weights, network, *jax.tree.map(lambda x: x[indices], rows))
        change, state = OPTIMIZER.update(gradient, state)
        return (optax.apply_updates(weights, change), state), None

    orders = jax.vmap(lambda k: jax.random.permutation(k, batch.actions.size))(jax.random.split(key, EPOCHS))
    (weights, state), _ = jax.lax.scan(update, (weights, state), orders.reshape(EPOCHS * MINIBATCHES, -1))
    return weights, state


def training(game: str, lanes: int) -> Callable[[], int]:
    """Returns a function that does one rollout with its update, and returns its number of agent steps."""
    pool = envpool.make_gymnasium(f"{game}-v5", num_envs=lanes, episodic_life=True, reward_clip=True, seed=1)
    network = Network(int(pool.action_space.n))
    frames, _ = pool.reset()
    key = jax.random.key(1)
    weights = network.init(key, frames)
    state = OPTIMIZER.init(weights)

    def unit() -> int:
        nonlocal frames, weights, state, key
        kept = []
        for _ in range(AGENT_STEPS):
            actions, log_probabilities, values, key = act(network, weights, frames, key)
            seen = frames
            frames, rewards, ended, cut, _ = pool.step(np.asarray(actions, np.int32))
            kept.append((seen, actions, log_probabilities, values, rewards, (ended | cut).astype(np.float32)))
        batch = Batch(*(np.stack(column) for column in zip(*kept, strict=True)))  # type: ignore[arg-type]
        key, here = jax.random.split(key)
        weights, state = learn(network, weights, state, batch, frames, here)
        jax.block_until_ready(weights)
        return AGENT_STEPS * lanes

    return unit
