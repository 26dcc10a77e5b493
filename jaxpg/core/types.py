"""What travels between the rooms of jaxpg, with one legend for every axis.

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
"""The same pytree with every leaf led by the axis ``P``."""

MEMBERS = "members"
"""Name of the axis ``P`` where ``act`` is mapped over it, by which a layer can know that its weights are of many."""

Outputs = tuple[jax.Array, jax.Array]
"""Logits and value, ``f32[..., A]`` and ``f32[...]``."""


@dataclass(frozen=True, kw_only=True)
class EmulatorNeeds:
    """What an observation asks of the emulator, so that a wrong pairing fails at start."""

    kind: Literal["pixels", "ram", "vector"]
    height: int = 0
    """Rows of a frame in pixels (only for pixels)."""
    width: int = 0
    """Columns of a frame in pixels (only for pixels)."""
    color: Literal["gray", "rgb"] = "gray"
    stack: int = 1
    """Frames given at each agent step, oldest first."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """What an environment gives and takes."""

    num_actions: int
    observation_shape: tuple[int, ...]
    """Shape of one lane's raw observation, without the lane axis."""
    observation_dtype: np.dtype
    axes: tuple[int, ...]
    """Transposition of one raw observation into ``[stack, H, W]``, ``[stack, 3, H, W]`` or ``[D]``."""
    frame_skip: int = 1
    """Emulator frames per agent step."""
    action_names: tuple[str, ...] = ()
    """Of the policy's actions, such as ``UP``, or their numbers where the emulator has no names."""
    remark: str = ""
    """What a user should know about these emulators, a sentence."""


class TimeStep(NamedTuple):
    """One agent step of all lanes, as host arrays.

    An episode ends with ``terminated`` or ``truncated``. The emulator ignores the next action and
    answers with the first observation of a new episode: there ``acted`` is False, the reward is 0,
    and the transition has no weight in any loss.
    """

    observation: np.ndarray  # [N, ...], raw, as EnvSpec says
    reward: np.ndarray  # f32[N], unclipped game score of this agent step
    terminated: np.ndarray  # bool[N], the game is over
    truncated: np.ndarray  # bool[N], the time limit cut the game
    life_lost: np.ndarray  # bool[N], a life was lost and the game goes on
    acted: np.ndarray  # bool[N], False where the action was ignored


class RawAnswers(NamedTuple):
    """What emulators said of ``K`` agent steps, as a compiled program got it; only their own backend reads it."""

    reward: jax.Array | np.ndarray  # [K, N]
    terminated: jax.Array | np.ndarray  # [K, N]
    truncated: jax.Array | np.ndarray  # [K, N]
    game_over: jax.Array | np.ndarray  # [K, N]
    lives: jax.Array | np.ndarray  # [K, N]


class CompiledEmulators(NamedTuple):
    """Emulators as functions for a compiled program, valid until the next ``reset`` or ``close``."""

    handle: np.ndarray
    """Orders the calls: each takes the one before's."""
    actions: np.ndarray
    """Of the policy's actions the emulator's, ``i32[A]``."""
    send: Callable[[jax.Array, jax.Array], jax.Array]
    """``(handle, actions i32[N] of the emulator) -> handle``"""
    recv: Callable[[jax.Array], tuple[jax.Array, jax.Array, RawAnswers]]
    """``handle -> (handle, observation [N, ...] as TimeStep has it, answers without the axis K)``"""


class VectorEnv(Protocol):
    """``N`` emulators stepped together. After ``reset`` and after each ``send`` comes one ``recv``."""

    num_lanes: int
    spec: EnvSpec

    def reset(self, seeds: np.ndarray) -> None:
        """Starts every lane anew; ``seeds`` is ``int[N]`` in ``[0, 2**31)``, one a lane, or ValueError."""

    def send(self, actions: np.ndarray) -> None:
        """Sends ``int[N]`` actions in ``[0, A)``; raises ValueError before an emulator sees others."""

    def recv(self) -> TimeStep:
        """Waits for all lanes."""

    def close(self) -> None:
        """Ends the emulators' threads."""


@runtime_checkable
class CompilableEnv(VectorEnv, Protocol):
    """Emulators that a program compiled for the host's CPU can call."""

    def compiled(self) -> CompiledEmulators:
        """Their functions."""

    def interpret(self, answers: RawAnswers) -> TimeStep:
        """What such a program got in K agent steps: a ``TimeStep`` led by K whose observation stands for nothing."""


class Tape(NamedTuple):
    """What acting leaves on the device. Row ``T`` holds only the bootstrap observation and value."""

    observation: jax.Array  # [T+1, N, ...], encoded
    action: jax.Array  # i32[T+1, N]
    logits: jax.Array  # f32[T+1, N, A]
    value: jax.Array  # f32[T+1, N], 0 where the policy has no value head


class Episodes(NamedTuple):
    """The whole games that ended in a rollout, in the order of their ends, those of one agent step by lane."""

    step: np.ndarray  # i64[K], agent step of the rollout (0 .. T-1) at which the game ended
    lane: np.ndarray  # i64[K], its number among all lanes of the run
    candidate: np.ndarray  # i64[K], whose game it was; 0 for a gradient learner
    episode_return: np.ndarray  # f64[K], unclipped game score over the whole game
    length_agent_steps: np.ndarray  # i64[K]


class Experience(NamedTuple):
    """All that came of a rollout in the lanes of one device (N)."""

    tape: Tape | None  # None where the learner keeps none
    reward: np.ndarray  # f32[T, N]
    terminated: np.ndarray  # bool[T, N]
    truncated: np.ndarray  # bool[T, N]
    life_lost: np.ndarray  # bool[T, N]
    acted: np.ndarray  # bool[T, N], False on autoreset steps and where no candidate plays: these have no weight
    episodes: Episodes


class PolicyFunctions(NamedTuple):
    """A policy as two pure functions."""

    init: Callable[[jax.Array], Params]
    """``key -> params``"""
    apply: Callable[[Params, jax.Array], Outputs]
    """``(params, observations [..., *shape]) -> (logits f32[..., A], value f32[...])``: one, or any number of them"""
    has_value: bool
