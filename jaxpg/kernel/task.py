"""What a policy is trained to do: what its inputs and outputs stand for, and what its scores depend on.

A policy knows its actions and its inputs by position alone. A checkpoint keeps what the positions mean, so that a
player or a resumed run with other emulators is compared by meaning.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, EnvSpec
from jaxpg.core.validation import STRICT
from jaxpg.envs.config import EnvConfig
from jaxpg.policies.observations import ObservationConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """Names and settings, as text."""

    __pydantic_config__ = STRICT

    game: str
    actions: tuple[str, ...]
    """Names of the policy's actions, in its order; numbers where the emulator has no names."""
    observation: str
    """The name of the observation."""
    inputs: dict[str, str]
    """Settings, by their flags' names, that what the policy sees depends on."""
    scores: dict[str, str]
    """Settings that returns depend on besides."""

    @classmethod
    def of(cls, env: EnvConfig, observation: ObservationConfig, needs: EmulatorNeeds, spec: EnvSpec) -> "Task":
        """The task of these settings.

        Args:
          env: the emulators.
          observation: what the policy sees of them.
          needs: what that asks of the emulators.
          spec: what the emulators give and take.
        """
        seen = ["name", *SEEN.get(observation.name, ())]
        inputs = {f"observation.{name}": str(getattr(observation, name)) for name in seen}
        scores = {"env.max_episode_agent_steps": str(env.max_episode_agent_steps)}
        if needs.kind != "vector":
            inputs["env.frame_skip"] = str(env.frame_skip)
            scores |= {f"env.{name}": str(getattr(env, name)) for name in ATARI_SCORES}
        if needs.kind == "pixels":
            inputs |= {f"env.{name}": str(getattr(env, name)) for name in ("maxpool", "resize")}
            if spec.remark:  # the backends show another part of such a game
                inputs["env.backend"] = env.backend
        return cls(game=env.game, actions=spec.action_names, observation=observation.name, inputs=inputs, scores=scores)


ATARI_SCORES = ("backend", "sticky_action_probability", "noop_max", "fire_reset")
SEEN = {"gray_difference": tuple(f.name for f in dataclasses.fields(ObservationConfig) if f.name != "name")}
"""Settings that an observation uses besides its name."""
POSITIONS = ("vector", "ram")
"""Observations whose numbers mean something else in every game."""


def check_player(trained: Task, played: Task) -> list[str]:
    """Compares what a policy was trained to do with what it is asked to play.

    Lanes, luck, no-ops and time limits may differ.

    Returns:
      Sentences about what the policy sees otherwise than in training, which makes scores hard to read.

    Raises:
      UserError: its actions or its inputs mean something else.
    """
    if trained.game != played.game and trained.observation in POSITIONS:
        raise UserError(
            f"env.game: the policy was trained on {trained.game}, and the numbers of its observation "
            f"{trained.observation!r} mean something else in {played.game}; play {trained.game}"
        )
    _check_actions(trained, played, f"give --env.actions {' '.join(trained.actions)}")
    said = [f"env.game is {played.game}, and was {trained.game} in training"] if trained.game != played.game else []
    return said + differences(trained.inputs, played.inputs)


def check_resumed(trained: Task, resumed: Task) -> list[str]:
    """Compares what a run was about with what it is asked to go on with.

    Returns:
      Sentences about what returns or inputs depend on and is no longer the same; then returns must be counted anew.

    Raises:
      UserError: it is another game, or the policy's actions mean something else.
    """
    if trained.game != resumed.game:
        raise UserError(
            f"env.game: this run is about {trained.game}, and cannot go on with {resumed.game}; "
            "begin a new run, without --resume"
        )
    _check_actions(trained, resumed, "resume without that flag, or begin a new run")
    return differences(trained.inputs | trained.scores, resumed.inputs | resumed.scores)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A sentence for each setting that is no longer the same."""
    return [
        f"{name} is {now.get(name, 'not used')}, and was {before.get(name, 'not used')} in training"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _check_actions(trained: Task, asked: Task, what_is_right: str) -> None:
    if trained.actions != asked.actions:
        raise UserError(
            f"env.actions: the policy was trained for the actions {', '.join(trained.actions)} of {trained.game}, but "
            f"is asked to play {', '.join(asked.actions)} of {asked.game}; {what_is_right}"
        )
