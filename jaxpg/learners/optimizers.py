"""Makes Optax optimizers and learning-rate schedules by name."""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Annotated, Any, Literal

import jax
import optax
from pydantic import Field

from jaxpg.core.errors import UserError, check_name
from jaxpg.core.validation import STRICT, Fraction, Name, NonNegativeFloat, PositiveFloat

OptionName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
"""Option names become flags, where ``-`` and ``_`` are the same, so two names must differ in more than that."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates."""

    __pydantic_config__ = STRICT

    name: Name = "adam"
    """Any Optax optimizer with a learning rate: adam, rmsprop, sgd, adamw, ..."""
    learning_rate: PositiveFloat = 5e-4
    """Step size at the start."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate goes from its start to its end over run.schedule_agent_steps: linear or cosine. With
    constant it stays as it starts."""
    final_learning_rate_fraction: Fraction = 0.1
    """Learning rate at the end of the schedule, as a share of the learning rate at the start."""
    max_gradient_norm: NonNegativeFloat = 0.5
    """Gradients with a larger global norm are scaled down to it; 0 turns clipping off."""
    options: dict[OptionName, float] = field(default_factory=dict)
    """Further numeric arguments of the optimizer, such as {eps: 1.0e-5} or {momentum: 0.9}."""


_NOT_OFFERED = ("noisy_sgd", "optimistic_adam", "rprop", "scale_by_rprop", "sm3")
"""Functions of Optax that require only a learning rate and yet do not fit: they need a key, are deprecated, take no
schedule, or are not optimizers."""


def available() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Finds every Optax optimizer whose only required argument is a learning rate, by name."""
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


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformationExtraArgs:
    """Builds the Optax chain: clip by global norm, then the optimizer.

    The learning rate is an argument of every update, ``update(gradient, state, params, learning_rate=...)``, and the
    optimizer's state does not contain it. So a resumed run continues with the rate that follows from its agent steps
    and its settings.

    Raises:
      UserError: the optimizer or an option is unknown, or the optimizer refuses the options.
    """
    optimizers = available()
    check_name("optimizer.name", config.name, optimizers)
    make = optimizers[config.name]
    for option in config.options:
        check_name(f"optimizer.options of {config.name}", option, list(inspect.signature(make).parameters)[1:])
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()

    def chain(learning_rate: jax.typing.ArrayLike) -> optax.GradientTransformation:
        return optax.chain(clip, make(lambda count: learning_rate, **config.options))

    def update(
        gradient: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        learning_rate: jax.typing.ArrayLike,
        **others: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        del others
        return chain(learning_rate).update(gradient, state, params)

    try:
        init = chain(config.learning_rate).init
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.options: {config.name} refuses {config.options}: {error}") from error
    return optax.GradientTransformationExtraArgs(init, update)


def learning_rate_at(config: OptimizerConfig, progress: float) -> float:
    """The learning rate after the share ``progress``, in [0, 1], of the schedule."""
    end = config.final_learning_rate_fraction
    share = {
        "constant": 1.0,
        "linear": 1 + (end - 1) * progress,
        "cosine": end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2,
    }[config.schedule]
    return config.learning_rate * share
