"""Updates the weights from a batch and its targets: sums the gradients of chunks, then makes the optimizer's step."""

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
    """A gradient, or a sum of gradients over chunks and devices, and the metrics computed with it."""

    gradient: Params
    metrics: Metrics


def weight_of_rows(weight: jax.Array, rows: jax.Array | np.ndarray) -> jax.Array:
    """Total weight of the agent steps ``rows`` in all lanes, ``f32[]``, but at least 1, because losses divide by it."""
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
    """Computes the gradient from some rows of one device's tape.

    Args:
      apply: ``(params, encoded observations [B, ...]) -> (logits, values)``.
      objective: the function to minimise.
      params: the weights.
      tape: ``[T+1, n, ...]``, the tape of the device's n lanes.
      first_lane: number of the device's first lane among all N lanes.
      targets: ``f32[T, N]`` each, the targets of all lanes.
      rows: ``i32[R]``, the agent steps to learn from.
      total_weight: ``f32[]``, sum of the weights of all agent steps of the update.
      entropy_bonus: ``f32[]``, coefficient of the entropy.
    """
    own_lanes = partial(jax.lax.dynamic_slice_in_dim, start_index=first_lane, slice_size=tape.action.shape[1], axis=1)
    flat = partial(jax.tree.map, lambda x: x.reshape(-1, *x.shape[2:]))
    chunk = flat(jax.tree.map(lambda x: x[rows], tape))
    own_targets = flat(jax.tree.map(lambda x: own_lanes(x[rows]), targets))

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
        return objective(apply(params, chunk.observation), chunk, own_targets, total_weight, entropy_bonus)

    return Gradient(*jax.grad(loss, has_aux=True)(params))


def add_up(sums: Gradient | None, gradient: Gradient) -> Gradient:
    """Adds a gradient to a sum; None stands for an empty sum."""
    return gradient if sums is None else jax.tree.map(jnp.add, sums, gradient)


def sum_over_devices(gradients: Gradient) -> Gradient:
    """Sums the gradients of all devices, which lie along the leading axis of each leaf."""
    return jax.tree.map(lambda x: x.sum(0), gradients)


def apply_gradient(
    optimizer: optax.GradientTransformationExtraArgs,
    share: float,
    params: Params,
    optimizer_state: optax.OptState,
    gradient: Gradient,
    learning_rate: jax.Array,
) -> tuple[Params, optax.OptState, Metrics]:
    """Makes one step of the optimizer.

    Args:
      optimizer: any Optax chain; its update takes the learning rate as an argument.
      share: the weight of this update in the iteration's metrics: 1 over the number of updates.
      params: the weights.
      optimizer_state: the optimizer's state.
      gradient: the gradient of the whole update, with its metrics.
      learning_rate: ``f32[]``.

    Returns:
      The new weights, the new optimizer state, and the metrics of this update times ``share``.
    """
    updates, optimizer_state = optimizer.update(gradient.gradient, optimizer_state, params, learning_rate=learning_rate)
    # without the barrier, XLA on CPU stores the squares to share them with an optimizer that also squares
    norm = optax.tree.norm(jax.lax.optimization_barrier(gradient.gradient))
    shares = {name: x * share for name, x in (gradient.metrics | {"gradient_norm": norm}).items()}
    return optax.apply_updates(params, updates), optimizer_state, shares
