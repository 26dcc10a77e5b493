"""Divides a batch of REINFORCE into updates, and each update into chunks. A row is one agent step of all lanes."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.learners.reinforce_config import ReinforceConfig


def minibatches(config: ReinforceConfig, update_rows: int, key: jax.Array) -> Iterator[np.ndarray]:
    """Yields the rows of each update, ``int[update_rows]``.

    Where one update learns from the whole batch, the rows are in order; otherwise each epoch shuffles the rows anew.
    """
    steps = config.rollout_agent_steps
    for epoch in range(config.epochs):
        order = np.arange(steps)
        if update_rows < steps:
            order = np.asarray(_permutation(key, epoch, steps))
        yield from order.reshape(-1, update_rows)


@partial(jax.jit, static_argnames="num_rows")
def _permutation(key: jax.Array, epoch: int, num_rows: int) -> jax.Array:
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_rows)


def rows_per_update(config: ReinforceConfig, num_lanes: int) -> int:
    """Rows of one update.

    Raises:
      UserError: the minibatch does not divide the batch evenly, or ``td_lambda`` does not fit the baseline.
    """
    if config.td_lambda < 1 and config.baseline != "value":
        raise UserError(
            f"reinforce.td_lambda: {config.td_lambda} needs reinforce.baseline value, not {config.baseline!r}; use 1.0"
        )
    steps = config.rollout_agent_steps
    rows, rest = divmod(config.agent_steps_per_update(num_lanes), num_lanes)
    if rest or rows == 0 or steps % rows:
        raise UserError(
            f"reinforce.minibatch_agent_steps: {config.minibatch_agent_steps} must be a multiple of the {num_lanes} "
            f"lanes and divide the batch of {steps * num_lanes} agent steps"
        )
    return rows


def with_fitting_minibatch(config: ReinforceConfig, num_lanes: int) -> tuple[ReinforceConfig, list[str]]:
    """Replaces the size of a minibatch by the nearest one that divides the batch, so that a recipe fits any N.

    Returns:
      The settings, and a remark for the user where the size has changed.
    """
    steps, asked = config.rollout_agent_steps, config.minibatch_agent_steps
    if not 0 < asked < steps * num_lanes:
        return config, []
    fitting = num_lanes * min(_divisors(steps), key=lambda rows: (abs(math.log(rows * num_lanes / asked)), rows))
    if fitting == asked:
        return config, []
    return dataclasses.replace(config, minibatch_agent_steps=fitting), [
        f"updates learn from {fitting} agent steps, which divide a batch of {num_lanes} lanes x {steps} agent steps; "
        f"reinforce.minibatch_agent_steps asks for {asked}"
    ]


def rows_per_chunk(config: ReinforceConfig, num_lanes: int, update_rows: int) -> int:
    """Rows of an update that are differentiated at once; ``num_lanes`` counts the lanes of one device."""
    if jax.default_backend() != "cpu":
        return update_rows
    most = max(config.chunk_agent_steps // num_lanes, 1)
    return max(rows for rows in _divisors(update_rows) if rows <= most)


def _divisors(number: int) -> list[int]:
    """The divisors of a number; fast enough for a rollout of 2**31 agent steps."""
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return small + [number // divisor for divisor in small]
