"""From a batch and its targets to new weights: gradients chunk by chunk, added up, and the optimizer's step."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpg.core.types import Outputs, Params, Tape
from jaxpg.learners.base import Metrics
from jaxpg.learners.targets import Targets

Objective = Callable[[Outputs, Tape, Targets, jax.Array, jax.Array], tuple[jax.Array, Metrics]]
"""``(outputs, chunk, targets, total_weight, entropy_bonus) -> (loss, metrics)``"""


class Gradient(NamedTuple):
    """A sum over chunks and devices, and the metrics that belong to it."""

    gradient: Params
    metrics: Metrics


def weight_of_rows(weight: jax.Array, rows: np.ndarray) -> jax.Array:
    """Total weight of the agent steps of ``rows`` in all lanes, ``f32[]``; 1 where they have none."""
    return jnp.maximum(weight[rows].sum(), 1.0)


def gradient_of_rows(
    apply: Callable[[Params, jax.Array], Outputs],
    objective: Objective,
    params: Params,
    tape: Tape,
    first_lane: jax.Array,
    targets: Targets,
    rows: jax.Array,
    total_weight: jax.Array,
    entropy_bonus: jax.Array,
) -> Gradient:
    """The gradient of one device's lanes at some rows of its tape.

    Args:
      apply: ``(params, encoded observations [B, ...]) -> (logits, values)``.
      objective: what is minimised.
      params: the weights.
      tape: ``[T+1, n, ...]``, of the device's own lanes.
      first_lane: number of the first of these lanes.
      targets: ``f32[T, N]``, of all lanes.
      rows: ``i32[R]``.
      total_weight: of the whole update.
      entropy_bonus: ``f32[]``.
    """
    own_lanes = partial(jax.lax.dynamic_slice_in_dim, start_index=first_lane, slice_size=tape.action.shape[1], axis=1)
    flat = partial(jax.tree.map, lambda x: x.reshape(-1, *x.shape[2:]))
    chunk = flat(jax.tree.map(lambda x: x[rows], tape))
    own_targets = flat(jax.tree.map(lambda x: own_lanes(x[rows]), targets))

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
        return objective(apply(params, chunk.observation), chunk, own_targets, total_weight, entropy_bonus)

    return Gradient(*jax.grad(loss, has_aux=True)(params))


def add_up(sums: Gradient | None, gradient: Gradient) -> Gradient:
    """The sum of two, the first of which may be missing."""
    return gradient if sums is None else jax.tree.map(jnp.add, sums, gradient)


def sum_over_devices(gradients: Gradient) -> Gradient:
    """Adds up gradients whose leaves are led by the devices."""
    return jax.tree.map(lambda x: x.sum(0), gradients)


def apply_gradient(
    optimizer: optax.GradientTransformationExtraArgs,
    share: float,
    params: Params,
    optimizer_state: optax.OptState,
    gradient: Gradient,
    means: Metrics | None,
    learning_rate: jax.Array,
) -> tuple[Params, optax.OptState, Metrics]:
    """One step of the optimizer.

    Args:
      optimizer: takes the learning rate as an argument of its update.
      share: this update's in the iteration's metrics, one over the number of updates.
      params: the weights.
      optimizer_state: belongs to them.
      gradient: of the whole update.
      means: metrics of the iteration's earlier updates, each times its share; None for the first one.
      learning_rate: ``f32[]``.

    Returns:
      The new weights and state, and the metrics with this update's.
    """
    updates, optimizer_state = optimizer.update(gradient.gradient, optimizer_state, params, learning_rate=learning_rate)
    # the barrier keeps XLA on CPU from storing the squares to share them with an optimizer that squares, too
    norm = optax.tree.norm(jax.lax.optimization_barrier(gradient.gradient))
    shares = {name: x * share for name, x in (gradient.metrics | {"gradient_norm": norm}).items()}
    means = shares if means is None else jax.tree.map(jnp.add, means, shares)
    return optax.apply_updates(params, updates), optimizer_state, means
