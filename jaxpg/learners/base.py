"""The protocol of every learner: pure functions without hidden state, in the style of Optax.

``Learner`` is what learns in a run. ``LearnerKind`` describes a kind of learner before one is made: its settings, how a
learner is made from them, its memory estimate, and what reports show. ``registry.LEARNERS`` holds the kinds by name.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import Answers, Episodes, Experience, Params, PolicyFunctions, Population, Tape, ValueScale
from jaxpg.core.validation import STRICT
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.machine.memory_estimate import Part
from jaxpg.parallel.team import Team
from jaxpg.policies.observations import Observation

Metrics = dict[str, Any]
"""Scalars of one iteration by name. Those that jitted code computed are still on the device."""


class Learner(NamedTuple):
    """A learner as pure functions of a state, a pytree of arrays.

    The state has a field ``params``: the policy that the learner stands for. A gradient learner has one candidate,
    which plays in all lanes without end. Search and evolution have ``episodes_to_play``: a round is over when these
    episodes have been played, and then the learner is asked for the next round's.
    """

    init: Callable[[jax.Array, Params], Any]
    """``(key, params) -> state``"""
    ask: Callable[[Any, jax.Array], Population]
    """``(state, ids i32[K]) -> population``: the weights of these candidates, on a leading axis of length K. The
    answer for an id does not change during a round. The function is jitted where it computes anything."""
    tell: Callable[[Any, Sequence[Experience], Episodes, float], tuple[Any, Metrics]]
    """``(state, experiences, episodes, progress) -> (state, metrics)``. The call consumes the old state. The
    experiences are those of this process's devices; the episodes are those of all lanes of the run. Progress is the
    share of the schedules that was over before this iteration, in [0, 1]. Every process computes the same result and
    asks the team for what other devices hold. The function may be plain Python around jitted functions."""
    keeps_tape: bool
    """Whether the rollout must keep a tape for ``tell``."""
    learn: Callable[[Any, Tape, Answers, Metrics], tuple[Any, Metrics]] | None = None
    """``(state, tape, answers, scheduled) -> (state, metrics)``: ``tell`` for one device as a pure function, which a
    program can call that also plays. It equals ``tell`` to rounding. None where ``tell`` needs Python."""
    scheduled: Callable[[float], Metrics] = lambda progress: {}
    """``progress -> {name: float}``: the settings that follow a schedule, for ``learn``."""
    greedy: bool = False
    """Whether policies take the most probable action instead of a sampled one."""
    episodes_to_play: Callable[[Any], np.ndarray] | None = None
    """``state -> i64[J]``: the episodes still to play in this round, given by their candidates' ids, one entry an
    episode. An empty array ends the run. Towards the end of a round more and more lanes are idle; a pool in
    which no candidate plays is no longer emulated."""
    progress_metrics: tuple[str, ...] = ()
    """The metrics that progress lines show, such as the generation."""
    report: Callable[[dict[str, float]], str] | None = None
    """``newest metrics -> line``: a line for the user at the end of the run."""
    score: str = ""
    """The metric that says how good ``params`` are, by which the best checkpoint is chosen; empty for the mean return
    of the last 100 episodes."""
    result: Callable[[Any], tuple[Params, str]] | None = None
    """``state -> (params, remark)``: the best policy found so far, and a sentence about it, which is empty once the
    search is over. Raises UserError where nothing has been found yet. None where ``params`` are a result at any
    time."""
    value_scale: Callable[[Any], ValueScale] = lambda state: ValueScale()
    """``state -> scale``: what turns the outputs of the policy's value head into returns-to-go, for display."""


Section = TypeVar("Section")
"""The dataclass of a learner's settings, a section of the configuration."""


class Ingredients(NamedTuple, Generic[Section]):
    """What a learner is made from. The parts fit each other."""

    config: Section
    """The learner's own settings."""
    optimizer: OptimizerConfig
    """How gradients become updates, for a learner that has gradients."""
    policy: PolicyFunctions
    """The policy, with a value head or standardised inputs where the kind asks for them."""
    observation: Observation
    """Decodes the tape's observations."""
    input_shape: tuple[int, ...]
    """Shape of one policy input."""
    num_lanes: int
    """N, the lanes of all devices together."""
    team: Team
    """The devices that share the lanes."""


class Sizes(NamedTuple):
    """Sizes on which the memory of training depends, besides the learner's own settings."""

    num_lanes: int
    """Lanes that share this memory."""
    all_lanes: int
    """Lanes of the run (N)."""
    gradient_bytes: int
    """Bytes that a gradient keeps of one agent step: the policy's input, and the outputs of its layers."""
    weight_bytes: int
    """Bytes of the weights of one policy."""


def never(config: Any) -> bool:
    """Returns False, whatever the settings are."""
    return False


def as_it_is(config: Section) -> Section:
    """Returns the settings unchanged."""
    return config


def undiscounted(config: Any, rewards: np.ndarray, life_lost: np.ndarray) -> np.ndarray:
    """Sums the rewards from each agent step to the end of the episode, ``f32[T]``, without a discount."""
    return np.cumsum(rewards[::-1], dtype=np.float32)[::-1]


@dataclass(frozen=True, kw_only=True)
class LearnerKind(Generic[Section]):
    """A kind of learner. Only ``config`` and ``make`` are required.

    Raises:
      UserError: ``config`` is not a dataclass, or one of its fields has no default.
    """

    config: type[Section]
    """The dataclass of the learner's settings. They form the section of the configuration that has the learner's name.
    Every field has a default, and the docstring under a field is the help text of its flag."""
    make: Callable[[Ingredients[Section]], Learner]
    """Builds the learner. Raises UserError where settings contradict each other."""
    has_value: Callable[[Section], bool] = never
    """Whether the policy has a value head."""
    normalizes_observations: Callable[[Section], bool] = never
    """Whether the policy's inputs are standardised. The params are then those of ``policies.networks.with_normalizer``,
    and the learner keeps their mean and standard deviation up to date."""
    sweepable: tuple[str, ...] = ()
    """Keys of the settings that may differ between the members of a population (``run.sweep``). ``learn`` finds a
    member's own number under the setting's name in ``scheduled``, where the setting follows a schedule or is swept."""
    rollout_setting: str = ""
    """The name of the setting that gives T, the agent steps of a rollout; empty for a learner that learns from whole
    episodes alone, whose T the kernel chooses."""
    fitted: Callable[[Section, int], tuple[Section, list[str]]] = lambda config, num_lanes: (config, [])
    """``(settings, N) -> (settings, remarks)``: fits the settings to the number of lanes. The remarks tell the user
    what changed, in sentences without their full stop."""
    check: Callable[[Section, OptimizerConfig], None] = lambda config, optimizer: None
    """Raises UserError for settings with which the learner cannot train. It is not called where a trained policy only
    plays."""
    for_playing: Callable[[Section], Section] = as_it_is
    """Returns settings with which ``make`` succeeds for a policy that only plays. Settings that only learning needs may
    change. Settings that shape the learner's state stay, because a checkpoint holds the whole state."""
    memory: Callable[[Section, Sizes], list[Part]] = lambda config, sizes: []
    """The memory that learning takes besides the tape, the weights, the optimizer's state and one gradient."""
    returns_to_go: Callable[[Section, np.ndarray, np.ndarray], np.ndarray] = undiscounted
    """``(settings, rewards f32[T], life_lost bool[T]) -> f32[T]``: the credit of each agent step of one whole episode,
    computed without values, for display beside a video. The last agent step is a termination."""
    search_episodes: Callable[[Section], int] | None = None
    """For a learner that draws candidates: how many of a candidate's first episodes belong to the search; the report
    shows the later ones as fresh. None where the report shows the episodes by time."""

    def __post_init__(self) -> None:
        config: Any = self.config
        if not dataclasses.is_dataclass(config) or any(
            field.init and field.default is field.default_factory is dataclasses.MISSING
            for field in dataclasses.fields(config)
        ):
            raise UserError(f"run.learner: the settings {config!r} must be a dataclass whose fields all have defaults")
        if not hasattr(config, "__pydantic_config__"):  # without it a misspelt key of a recipe would be passed over
            setattr(config, "__pydantic_config__", STRICT)  # noqa: B010
