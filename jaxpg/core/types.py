"""The data types that jaxpg's packages exchange, and the letters for their axes.

| letter | axis                                                                          |
|--------|-------------------------------------------------------------------------------|
| ``T``  | agent steps in one rollout (one agent step = ``frame_skip`` emulator frames)   |
| ``P``  | population members (always present; 1 for a gradient learner)                  |
| ``E``  | environments per member                                                        |
| ``N``  | lanes, ``N = P * E``; lane ``n`` belongs to member ``n // E``                  |
| ``A``  | actions                                                                        |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

Params = Any
"""A pytree of arrays: the weights of one policy."""

Population = Any
"""The pytree of ``Params`` with the axis ``P`` in front of every leaf: the weights of all members."""

MEMBERS = "members"
"""Name of the axis ``P`` when ``act`` is mapped over members. A layer looks for this name to see whether its weights
are mapped."""

Outputs = tuple[jax.Array, jax.Array]
"""A policy's logits ``f32[..., A]`` and value ``f32[...]``."""


@dataclass(frozen=True, kw_only=True)
class EmulatorNeeds:
    """What an observation requires of the emulator. A backend that cannot provide it fails at the start."""

    kind: Literal["pixels", "ram", "vector", "picture"]
    """``pixels`` and ``ram`` come from an Atari emulator, frames of the size below. ``vector`` and ``picture`` are what
    another environment gives, unchanged."""
    height: int = 0
    """Height of a frame in pixels. Only for ``pixels``."""
    width: int = 0
    """Width of a frame in pixels. Only for ``pixels``."""
    color: Literal["gray", "rgb"] = "gray"
    """Whether a frame has one gray value for each pixel, or three colours. Only for ``pixels``."""
    stack: int = 1
    """Frames in one observation, oldest first."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """The actions that an environment takes and the observations that it returns."""

    num_actions: int
    """The number of actions, A."""
    observation_shape: tuple[int, ...]
    """Shape of one lane's raw observation, without the lane axis."""
    observation_dtype: np.dtype
    """Type of the raw observation's numbers."""
    axes: tuple[int, ...]
    """Transposition of one raw observation into ``[stack, H, W]``, ``[stack, 3, H, W]`` or ``[D]``; for a
    ``picture``, into ``[H, W]`` or ``[H, W, C]``."""
    frame_skip: int = 1
    """Emulator frames per agent step."""
    action_names: tuple[str, ...] = ()
    """Name of each policy action, such as ``UP``. Its number if the emulator has no names."""
    remark: str = ""
    """A sentence about this environment that the user should read. Empty if there is nothing to say."""
    in_jax: bool = False
    """Whether the environment is written in JAX, so that a compiled program steps it (``InJax``)."""


class TimeStep(NamedTuple):
    """One agent step of all lanes, as host arrays.

    An episode ends with ``terminated`` or ``truncated``. The emulator ignores the next action and
    returns the first observation of a new episode. On that agent step ``acted`` is False, the reward
    is 0, and the transition has no weight in any loss.
    """

    observation: np.ndarray
    """``[N, ...]``, raw; ``EnvSpec`` has shape and dtype."""
    reward: np.ndarray
    """``f32[N]``, the unclipped game score of this agent step."""
    terminated: np.ndarray
    """``bool[N]``, the episode ended by the game's rules."""
    truncated: np.ndarray
    """``bool[N]``, the time limit cut the episode."""
    life_lost: np.ndarray
    """``bool[N]``, a life was lost and the episode continues."""
    acted: np.ndarray
    """``bool[N]``, False where the action was ignored."""


class RawAnswers(NamedTuple):
    """The emulators' raw results of ``K`` agent steps, from a compiled program.

    Only the backend that made these answers can read them, with ``CompilableEnv.interpret``.
    """

    reward: jax.Array | np.ndarray
    """``[K, N]``"""
    terminated: jax.Array | np.ndarray
    """``[K, N]``"""
    truncated: jax.Array | np.ndarray
    """``[K, N]``"""
    game_over: jax.Array | np.ndarray
    """``[K, N]``"""
    lives: jax.Array | np.ndarray
    """``[K, N]``"""


class CompiledEmulators(NamedTuple):
    """Functions that call the emulators from a compiled program. Valid until the next ``reset`` or ``close``."""

    handle: np.ndarray
    """Token that orders the calls: each call takes the token that the call before returned."""
    actions: np.ndarray
    """Emulator action for each policy action, ``i32[A]``."""
    send: Callable[[jax.Array, jax.Array], jax.Array]
    """``(handle, emulator actions i32[N]) -> handle``"""
    recv: Callable[[jax.Array], tuple[jax.Array, jax.Array, RawAnswers]]
    """``handle -> (handle, raw observation [N, ...], RawAnswers without the axis K)``"""


class VectorEnv(Protocol):
    """``N`` lanes that are stepped together. Call ``recv`` once after ``reset`` and once after each ``send``."""

    num_lanes: int
    """The number of lanes, N."""
    spec: EnvSpec
    """The actions and observations of every lane."""

    def reset(self, seeds: np.ndarray) -> None:
        """Restarts every lane. ``seeds`` is ``int[N]`` in ``[0, 2**31)``, one seed per lane.

        Raises:
          ValueError: the seeds have another shape, dtype or range.
        """

    def send(self, actions: np.ndarray) -> None:
        """Sends ``int[N]`` actions in ``[0, A)``, one per lane.

        Raises:
          ValueError: the actions have another shape, dtype or range. No emulator has seen them.
        """

    def recv(self) -> TimeStep:
        """Waits for all lanes and returns their agent step."""

    def close(self) -> None:
        """Stops the emulators' threads."""


@runtime_checkable
class CompilableEnv(VectorEnv, Protocol):
    """Environment that a program compiled for the host's CPU can step."""

    def compiled(self) -> CompiledEmulators:
        """The functions that step the lanes from a compiled program."""

    def interpret(self, answers: RawAnswers) -> TimeStep:
        """Converts the raw answers of K agent steps into a ``TimeStep`` with a leading axis K.

        The ``TimeStep`` holds no observation: that field is a meaningless empty array.
        """


@runtime_checkable
class DrawingEnv(VectorEnv, Protocol):
    """Environment that draws pictures of its first lane."""

    @property
    def agent_steps_per_second(self) -> float | None:
        """How many agent steps are a second for somebody who watches; None where the environment does not say."""

    def picture(self) -> np.ndarray | None:
        """Draws the first lane as it is now, ``uint8[H, W, 3]``; None where the environment cannot draw.

        Raises:
          UserError: a package for drawing is missing.
          FaultError: drawing failed.
        """


class JaxStep(NamedTuple):
    """What a ``JaxEnvironment`` answers to one action, in one lane."""

    observation: jax.Array
    """Of the same shape and dtype as the observation of ``reset``."""
    reward: jax.Array
    """``f32[]``"""
    terminated: jax.Array
    """``bool[]``, the episode ended by the rules."""
    truncated: jax.Array | bool = False
    """``bool[]``, the episode was cut, and could have gone on."""
    life_lost: jax.Array | bool = False
    """``bool[]``, a life was lost and the episode continues."""


class JaxEnvironment(NamedTuple):
    """One lane of an environment written in JAX, as two pure functions. The kernel vmaps them.

    The functions know neither time limits nor automatic resets; jaxpg adds both.
    """

    reset: Callable[[jax.Array], tuple[Any, jax.Array]]
    """``key -> (state, observation)``. The state is any pytree of arrays."""
    step: Callable[[jax.Array, Any, jax.Array], tuple[Any, JaxStep]]
    """``(key, state, action i32[]) -> (state, JaxStep)``, with the action in ``[0, num_actions)``."""
    num_actions: int
    """The number of actions, A."""
    action_names: tuple[str, ...] = ()
    """Name of each action, such as ``UP``; empty for numbers."""
    max_episode_agent_steps: int = 2**31 - 1
    """The environment's own time limit, at which an episode is truncated; ``env.max_episode_agent_steps`` may be less.
    """


class Lanes(NamedTuple):
    """All that N lanes of a ``JaxEnvironment`` go on from. Every leaf has the leading axis N."""

    key: jax.Array
    """``u32[N, 2]``, the lane's own randomness, which never changes."""
    calls: jax.Array
    """``u32[N]``, resets and steps so far. With ``key`` they give the key of the next call."""
    length: jax.Array
    """``i32[N]``, agent steps of the episode so far."""
    ended: jax.Array
    """``bool[N]``, the episode is over, and the next action is ignored."""
    state: Any
    """The environment's own states."""
    observation: jax.Array
    """``[N, ...]``, raw."""


class ValueScale(NamedTuple):
    """The scale of a value head's outputs, where the head learns standardised returns-to-go."""

    mean: Any = 0.0
    """``f32[]``, mean of the returns-to-go."""
    deviation: Any = 1.0
    """``f32[]``, their standard deviation."""

    def returns_of(self, outputs: Any) -> Any:
        """Turns the outputs into estimates of the return-to-go."""
        return self.mean + self.deviation * outputs


class Answers(NamedTuple):
    """The fields of a ``TimeStep`` besides the observation, on the device until someone fetches them."""

    reward: Any
    """``f32[N]``"""
    terminated: Any
    """``bool[N]``"""
    truncated: Any
    """``bool[N]``"""
    life_lost: Any
    """``bool[N]``"""
    acted: Any
    """``bool[N]``"""


@runtime_checkable
class InJax(VectorEnv, Protocol):
    """Lanes of an environment written in JAX, which a compiled program can step."""

    lanes: Lanes
    """Where the lanes are. Whoever steps them in a program of its own puts the new lanes here."""
    actions: np.ndarray
    """The environment's action for each policy action, ``i32[A]``."""

    def advance(self, lanes: Lanes, actions: jax.Array) -> tuple[Lanes, Answers]:
        """Steps N lanes with the environment's actions ``i32[N]``. A pure function, for use in programs."""


class Tape(NamedTuple):
    """What a rollout leaves on the device for the learner. Row ``T`` holds only the bootstrap observation and value."""

    observation: jax.Array
    """``[T+1, N, ...]``, encoded."""
    action: jax.Array
    """``i32[T+1, N]``"""
    logits: jax.Array
    """``f32[T+1, N, A]``"""
    value: jax.Array
    """``f32[T+1, N]``, 0 if the policy has no value head."""


class Episodes(NamedTuple):
    """The K episodes that ended in a rollout, sorted by the agent step of their end, then by lane."""

    step: np.ndarray
    """``i64[K]``, the agent step of the rollout, 0 to T-1, at which the episode ended."""
    lane: np.ndarray
    """``i64[K]``, the lane's number among all lanes of the run."""
    candidate: np.ndarray
    """``i64[K]``, the id of the candidate that played; 0 for a gradient learner."""
    episode_return: np.ndarray
    """``f64[K]``, the unclipped game score of the whole episode."""
    length_agent_steps: np.ndarray
    """``i64[K]``, the agent steps of the whole episode."""


class Experience(NamedTuple):
    """The result of one rollout, for the ``N`` lanes of one device."""

    tape: Tape | None
    """None if the learner needs no tape."""
    reward: np.ndarray
    """``f32[T, N]``"""
    terminated: np.ndarray
    """``bool[T, N]``"""
    truncated: np.ndarray
    """``bool[T, N]``"""
    life_lost: np.ndarray
    """``bool[T, N]``"""
    acted: np.ndarray
    """``bool[T, N]``, False on autoreset steps and where no candidate plays. Such agent steps have no weight."""
    episodes: Episodes
    """The episodes that ended in this rollout."""


class PolicyFunctions(NamedTuple):
    """A policy as two pure functions."""

    init: Callable[[jax.Array], Params]
    """``key -> params``"""
    apply: Callable[[Params, jax.Array], Outputs]
    """``(params, observations [..., *shape]) -> (logits f32[..., A], value f32[...])``, with any batch axes or none."""
    has_value: bool
    """Whether the policy has a value head; without one the value is 0."""
