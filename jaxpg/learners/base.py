"""The shape of every learner: pure functions and no hidden state, as Optax made familiar.

``Learner`` is what plays and learns in a run. ``LearnerKind`` is what is known of it before it is made: its settings,
how it is made from them, and the words and sizes that only it knows. ``registry.LEARNERS`` has the kinds by name.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import Episodes, Experience, Params, PolicyFunctions, Population
from jaxpg.core.validation import STRICT
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.machine.memory_estimate import Part
from jaxpg.parallel.team import Team
from jaxpg.policies.observations import Observation

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
    episodes_to_play: Callable[[Any], np.ndarray] | None = None
    """``state -> i64[J]``, the candidates whose games are still to be played in this round, one entry a game;
    empty when nothing is left to do at all. A round comes to rest as the last of its games end; so the lanes are
    divided into pools, each of which is no longer emulated once nobody plays in it."""
    progress_metrics: tuple[str, ...] = ()
    """The metrics that progress lines show, such as the generation."""
    report: Callable[[dict[str, float]], str] | None = None
    """The newest metrics -> what a person should know at the end of the run, one line."""
    score: str = ""
    """The metric that says how good ``params`` are, to choose the best save by; empty for the mean return of the last
    100 games."""
    result: Callable[[Any], tuple[Params, str]] | None = None
    """``state -> (params, remark)``, what the learner has found so far, and what to say about it, empty where that is
    its result; UserError where it has found nothing yet. None where ``params`` are a result at any time."""


Section = TypeVar("Section")
"""The dataclass of a learner's settings, a section of the configuration."""


class Ingredients(NamedTuple, Generic[Section]):
    """What a learner is made from; the pieces fit each other."""

    config: Section
    """The learner's own settings."""
    optimizer: OptimizerConfig
    """How gradients become updates, for a learner that has gradients."""
    policy: PolicyFunctions
    """With a value head or standardised inputs where the kind says so."""
    observation: Observation
    """Decodes the tape."""
    input_shape: tuple[int, ...]
    """Shape of one policy input."""
    num_lanes: int
    """N, of all devices."""
    team: Team
    """The devices, which share the lanes."""


class Sizes(NamedTuple):
    """What a training's memory depends on besides the learner's own settings."""

    num_lanes: int
    """Lanes of this process."""
    input_bytes: int
    """One policy input, in float32."""
    weight_bytes: int
    """The weights of one policy."""


def never(config: Any) -> bool:
    """False, whatever the settings are."""
    return False


def as_it_is(config: Section) -> Section:
    """The same settings."""
    return config


def undiscounted(config: Any, rewards: np.ndarray, life_lost: np.ndarray) -> np.ndarray:
    """The plain sum of the rewards from each agent step to the end of the game, ``f32[T]``."""
    return np.cumsum(rewards[::-1], dtype=np.float32)[::-1]


@dataclass(frozen=True, kw_only=True)
class LearnerKind(Generic[Section]):
    """A kind of learner, before one is made. Only ``config`` and ``make`` have to be given.

    Raises:
      UserError: ``config`` is no dataclass whose fields all have defaults.
    """

    config: type[Section]
    """The dataclass of its settings, which are the section of the configuration that has the learner's name. Every
    field has a default, and the docstring under a field is the help of its flag."""
    make: Callable[[Ingredients[Section]], Learner]
    """Builds the learner; UserError for settings that contradict each other."""
    has_value: Callable[[Section], bool] = never
    """Whether the policy has a value head."""
    normalizes_observations: Callable[[Section], bool] = never
    """Whether inputs are standardised, so that the params are those of ``policies.networks.with_normalizer``, whose
    mean and deviation the learner keeps up to date."""
    rollout_setting: str = ""
    """Which of its settings is T, the agent steps of a rollout; empty where it learns from whole games alone, and
    rollouts are as long as the kernel likes them."""
    fitted: Callable[[Section, int], tuple[Section, list[str]]] = lambda config, num_lanes: (config, [])
    """``(settings, N) -> (settings, remarks)``: the settings made to fit the number of lanes, and what the user should
    know about that, in sentences without their full stop."""
    check: Callable[[Section, OptimizerConfig], None] = lambda config, optimizer: None
    """UserError for settings that a training cannot have; nobody asks where a trained policy only plays."""
    for_playing: Callable[[Section], Section] = as_it_is
    """The settings with which ``make`` refuses no player: those that only learning needs become harmless. What shapes
    and explains the learner's state stays, because a checkpoint holds the whole state."""
    memory: Callable[[Section, Sizes], list[Part]] = lambda config, sizes: []
    """What learning takes of memory besides the tape, the weights, the optimizer's state and one gradient."""
    returns_to_go: Callable[[Section, np.ndarray, np.ndarray], np.ndarray] = undiscounted
    """``(settings, rewards f32[T], life_lost bool[T]) -> f32[T]``: what each agent step of a whole game is credited
    with, without values, to be shown beside a video. The end of the game is a termination."""
    search_episodes: Callable[[Section], int] | None = None
    """For the report of a learner that draws candidates: how many of a candidate's first episodes are its search, so
    that later ones are fresh. None where the report shows the episodes by time."""

    def __post_init__(self) -> None:
        config: Any = self.config
        if not dataclasses.is_dataclass(config) or any(
            field.init and field.default is field.default_factory is dataclasses.MISSING
            for field in dataclasses.fields(config)
        ):
            raise UserError(f"run.learner: the settings {config!r} must be a dataclass whose fields all have defaults")
        if not hasattr(config, "__pydantic_config__"):  # without it a misspelt key of a recipe would be passed over
            setattr(config, "__pydantic_config__", STRICT)  # noqa: B010
