"""Any Optax optimizer and schedule by name."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Annotated, Literal

import optax
from pydantic import Field

from jaxpg.errors import UserError, check_name
from jaxpg.validation import STRICT, Fraction, NonNegativeFloat, PositiveFloat

OptionName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
"""Each becomes a flag, of which two would be one if they differed in - and _ alone."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates."""

    __pydantic_config__ = STRICT

    name: str = "adam"
    """Any Optax optimizer with a learning rate: adam, rmsprop, sgd, adamw, ..."""
    learning_rate: PositiveFloat = 5e-4
    """Step size at the start."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate goes from its start to its end over run.schedule_agent_steps."""
    final_learning_rate_fraction: Fraction = 0.1
    """Learning rate at the end of the schedule, as a share of the one at the start."""
    max_gradient_norm: NonNegativeFloat = 0.5
    """Gradients with a larger global norm are scaled down to it; 0 turns clipping off."""
    options: dict[OptionName, float] = field(default_factory=dict)
    """Other numbers that the optimizer takes, such as {eps: 1.0e-5} or {momentum: 0.9}."""


_NOT_OFFERED = ("noisy_sgd", "optimistic_adam", "rprop", "scale_by_rprop", "sm3")
"""What needs only a learning rate but also a key, is deprecated, takes no schedule, or is no optimizer."""


def available() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Every Optax optimizer that needs a learning rate and nothing else, by name."""
    found: dict[str, Callable[..., optax.GradientTransformation]] = {}
    for name in dir(optax):
        candidate = getattr(optax, name)
        if not isinstance(candidate, FunctionType | functools.partial) or name in _NOT_OFFERED:
            continue
        parameters = inspect.signature(candidate).parameters
        required = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if required == ["learning_rate"]:
            found[name] = candidate
    return found


def make_optimizer(config: OptimizerConfig, schedule_updates: int) -> optax.GradientTransformation:
    """Builds the Optax chain: clip by global norm, then the optimizer with its schedule.

    Args:
      config: what the user chose.
      schedule_updates: updates over which the learning rate goes from its start to its end.

    Raises:
      UserError: an unknown optimizer or option.
    """
    optimizers = available()
    check_name("optimizer.name", config.name, optimizers)
    make = optimizers[config.name]
    for option in config.options:
        check_name(f"optimizer.options of {config.name}", option, list(inspect.signature(make).parameters)[1:])
    schedule_updates = min(max(schedule_updates, 1), 2**31 - 1)  # Optax counts to there
    start, end = config.learning_rate, config.learning_rate * config.final_learning_rate_fraction
    schedule = {
        "constant": optax.constant_schedule(start),
        "linear": optax.linear_schedule(start, end, schedule_updates),
        "cosine": optax.cosine_decay_schedule(start, schedule_updates, alpha=config.final_learning_rate_fraction),
    }[config.schedule]
    try:
        optimizer = make(schedule, **config.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.options: {config.name} refuses {config.options}: {error}") from error
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()
    return optax.chain(clip, optimizer)
