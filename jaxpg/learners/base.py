"""The shape of every learner: pure functions and no hidden state, as Optax made familiar."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxpg.types import Experience, Params, Population

Metrics = dict[str, jax.Array]
"""Scalars of one iteration, still on the device."""


class Learner(NamedTuple):
    """A learner as three functions.

    ``tell`` may be plain Python around jitted pieces; it dispatches and does not wait for the device.
    """

    init: Callable[[jax.Array, Params], Any]
    """``(key, params) -> state``; the state is a pytree of arrays."""
    ask: Callable[[Any], Population]
    """``state -> population``, a pytree whose leaves lead with P."""
    tell: Callable[[Any, Population, Experience], tuple[Any, Metrics]]
    """``(state, population, experience) -> (state, metrics)``; the state is consumed."""
    keeps_tape: bool
    """Whether the rollout must keep observations for ``tell``."""
