"""The plain PPO that speeds are compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from jax_ppo import AGENT_STEPS, DISCOUNT, TRACE_DECAY, Batch, advantages_of
from peer_contestant import KINDS


def test_advantages_are_those_of_rlax() -> None:
    rng = np.random.default_rng(1)
    values, rewards, ends = rng.normal(size=(7, 2)), rng.normal(size=(7, 2)), rng.uniform(size=(7, 2)) < 0.3
    last = rng.normal(size=2)
    batch = Batch(*(jnp.zeros(()),) * 3, *(jnp.asarray(x, jnp.float32) for x in (values, rewards, ends)))
    expected = jax.vmap(rlax.truncated_generalized_advantage_estimation, in_axes=(1, 1, None, 1), out_axes=1)(
        jnp.asarray(rewards, jnp.float32),
        jnp.asarray(DISCOUNT * (1 - ends), jnp.float32),
        TRACE_DECAY,
        jnp.asarray(np.vstack([values, last]), jnp.float32),
    )
    np.testing.assert_allclose(advantages_of(batch, jnp.asarray(last, jnp.float32)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_a_rollout_is_learned_from() -> None:
    assert KINDS["jax_ppo"]("Pong", 1)() == AGENT_STEPS
