"""How REINFORCE divides a batch: rows (agent steps of all lanes) into updates, and those into chunks."""

import dataclasses
import math
from collections.abc import Iterator

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.learners.reinforce_config import ReinforceConfig


def minibatches(config: ReinforceConfig, update_rows: int, key: jax.Array) -> Iterator[np.ndarray]:
    """The rows of each update, ``int[update_rows]``: in order for a whole batch, else shuffled each epoch."""
    steps = config.rollout_agent_steps
    for epoch in range(config.epochs):
        order = np.arange(steps)
        if update_rows < steps:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), steps))
        yield from order.reshape(-1, update_rows)


def agent_steps_per_update(config: ReinforceConfig, num_lanes: int) -> int:
    """How many an update learns from: all of a batch where it is not divided, or into larger parts than itself."""
    batch = config.rollout_agent_steps * num_lanes
    return min(config.minibatch_agent_steps or batch, batch)


def rows_per_update(config: ReinforceConfig, num_lanes: int) -> int:
    """How many rows an update learns from.

    Raises:
      UserError: the batch cannot be divided like that, or not used for that baseline.
    """
    if config.td_lambda < 1 and config.baseline != "value":
        raise UserError(
            f"reinforce.td_lambda: {config.td_lambda} needs reinforce.baseline value, not {config.baseline!r}; use 1.0"
        )
    steps = config.rollout_agent_steps
    rows, rest = divmod(agent_steps_per_update(config, num_lanes), num_lanes)
    if rest or rows == 0 or steps % rows:
        raise UserError(
            f"reinforce.minibatch_agent_steps: {config.minibatch_agent_steps} must be a multiple of the {num_lanes} "
            f"lanes and divide the batch of {steps * num_lanes} agent steps"
        )
    return rows


def with_fitting_minibatch(config: ReinforceConfig, num_lanes: int) -> tuple[ReinforceConfig, list[str]]:
    """The settings with minibatches that divide the batch, the nearest to those that were asked for, and a remark
    where these are others: one recipe serves any number of lanes.
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
    """How many of an update's rows are differentiated at once; ``num_lanes`` are those of one device."""
    if jax.default_backend() != "cpu":
        return update_rows
    most = max(config.chunk_agent_steps // num_lanes, 1)
    return max(rows for rows in _divisors(update_rows) if rows <= most)


def _divisors(number: int) -> list[int]:
    """The divisors of a number, in time even for a rollout of 2**31 agent steps."""
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return small + [number // divisor for divisor in small]
