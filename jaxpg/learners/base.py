"""The shape of every learner: pure functions and no hidden state, as Optax made familiar."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core.types import Episodes, Experience, Params, Population

Metrics = dict[str, Any]
"""Scalars of one iteration, as arrays; those of jitted code are still on the device."""


class Learner(NamedTuple):
    """A learner as pure functions of its state, a pytree of arrays whose ``params`` is the policy it stands for.

    A gradient learner has one candidate, which plays in all lanes without end. Search and evolution have
    ``games``: these are played to their end in rounds, and then the next round's games are asked for.
    """

    init: Callable[[jax.Array, Params], Any]
    """``(key, params) -> state``"""
    ask: Callable[[Any, jax.Array], Population]
    """``(state, ids i32[K]) -> population``, the weights of these candidates, leaves led by K; jitted where it
    computes anything. During a round the answer does not change."""
    tell: Callable[[Any, Sequence[Experience], Episodes, float], tuple[Any, Metrics]]
    """``(state, experiences, episodes, progress) -> (state, metrics)``; the state is consumed. The experiences are
    those of this process's devices, the episodes those of all lanes, and progress is the share of the schedules that
    was over before this iteration, in [0, 1]. Every process computes the same; where one needs what the
    others' devices hold, it asks the team. It may be plain Python around jitted pieces."""
    keeps_tape: bool
    """Whether the rollout must keep observations for ``tell``."""
    greedy: bool = False
    """Whether policies take the most probable action instead of a sampled one."""
    games: Callable[[Any], np.ndarray] | None = None
    """``state -> i64[J]``, the candidates whose games are still to be played in this round, one entry a game;
    empty when nothing is left to do at all."""
    report: Callable[[dict[str, float]], str] | None = None
    """The newest metrics -> what a person should know at the end of the run, one line."""
    score: str = ""
    """The metric that says how good ``params`` are, to choose the best save by; empty for the mean return of the last
    100 games."""
    result: Callable[[Any], tuple[Params, str]] | None = None
    """``state -> (params, remark)``, what the learner has found so far, and what to say about it, empty where that is
    its result; UserError where it has found nothing yet. None where ``params`` are a result at any time."""
