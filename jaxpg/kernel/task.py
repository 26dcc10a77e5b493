"""Describes what a policy is trained to do: the meaning of its inputs and actions, and what its scores depend on.

A policy knows its inputs and actions only by position. A checkpoint stores what the positions mean. So jaxpg can tell
whether the policy fits a player or a resumed run whose emulators differ from those of the training.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, EnvSpec
from jaxpg.core.validation import STRICT
from jaxpg.envs.actions import numbered
from jaxpg.envs.config import EnvConfig
from jaxpg.policies.observations import ObservationConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task of one policy: names and settings, as text."""

    __pydantic_config__ = STRICT

    game: str
    actions: tuple[str, ...]
    """Names of the policy's actions, in the policy's order; numbers where the emulator gives no names."""
    observation: str
    """The name of the observation."""
    inputs: dict[str, str]
    """Settings that determine what the policy sees, by their keys."""
    scores: dict[str, str]
    """Further settings that returns depend on, by their keys."""

    @classmethod
    def of(cls, env: EnvConfig, observation: ObservationConfig, needs: EmulatorNeeds, spec: EnvSpec) -> "Task":
        """Derives the task from the settings.

        Args:
          env: the settings of the emulators.
          observation: the settings of the observation.
          needs: what the observation asks of the emulators.
          spec: what the emulators give and take.
        """
        fields = (field.name for field in dataclasses.fields(observation))
        seen = [name for name in fields if observation.is_cropped or name == "name"]
        inputs = {f"observation.{name}": str(getattr(observation, name)) for name in seen}
        scores = {"env.max_episode_agent_steps": str(env.max_episode_agent_steps)}
        inputs |= {f"env.options.{name}": json.dumps(value) for name, value in env.options.items()}
        if needs.kind in ("pixels", "ram"):
            inputs["env.frame_skip"] = str(env.frame_skip)
            scores |= {f"env.{name}": str(getattr(env, name)) for name in ATARI_SCORES}
        if needs.kind == "pixels":
            inputs |= {f"env.{name}": str(getattr(env, name)) for name in ("maxpool", "resize")}
            if spec.remark:  # the backends show different parts of this game's picture
                inputs["env.backend"] = env.backend
        return cls(game=env.game, actions=spec.action_names, observation=observation.name, inputs=inputs, scores=scores)


ATARI_SCORES = ("backend", "sticky_action_probability", "noop_max", "fire_reset")
POSITIONS = ("vector", "ram")
"""Observations whose numbers have a different meaning in each game."""


def check_player(trained: Task, played: Task) -> list[str]:
    """Compares the task that a policy was trained for with the task that it is asked to play.

    The number of lanes, sticky actions, no-ops and time limits may differ.

    Returns:
      Sentences about differences in what the policy sees. Such differences make scores hard to interpret.

    Raises:
      UserError: the policy's actions or inputs mean something else in the task to play.
    """
    if trained.game != played.game and trained.observation in POSITIONS:
        raise UserError(
            f"env.game: the policy was trained on {trained.game}, and the numbers of its observation "
            f"{trained.observation!r} mean something else in {played.game}; play {trained.game}"
        )
    _check_actions(trained, played, f"give --env.actions {' '.join(trained.actions)}")
    said = [f"env.game is {played.game}, and was {trained.game} in training"] if trained.game != played.game else []
    if trained.actions != played.actions:
        said.append(f"actions {', '.join(trained.actions)} are taken for {', '.join(played.actions)}, in this order")
    return said + differences(trained.inputs, played.inputs)


def check_resumed(trained: Task, resumed: Task) -> list[str]:
    """Compares the task of a run with the task with which it is resumed.

    Returns:
      Sentences about settings that have changed and that returns or inputs depend on. Where there are any, the mean
      and the best of the returns must begin anew.

    Raises:
      UserError: the game is another one, or the policy's actions mean something else.
    """
    if trained.game != resumed.game:
        raise UserError(
            f"env.game: this run is about {trained.game}, and cannot go on with {resumed.game}; "
            "begin a new run, without --resume"
        )
    _check_actions(trained, resumed, "resume without that flag, or begin a new run")
    return differences(trained.inputs | trained.scores, resumed.inputs | resumed.scores)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each setting whose value has changed."""
    return [
        f"{name} is {now.get(name, 'not used')}, and was {before.get(name, 'not used')} in training"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _check_actions(trained: Task, asked: Task, what_is_right: str) -> None:
    if trained.actions != asked.actions and not _one_is_numbered(trained, asked):
        raise UserError(
            f"env.actions: the policy was trained for the actions {', '.join(trained.actions)} of {trained.game}, but "
            f"is asked to play {', '.join(asked.actions)} of {asked.game}; {what_is_right}"
        )


def _one_is_numbered(trained: Task, asked: Task) -> bool:
    """Whether one of two tasks of the same game has as many actions as the other, and only their numbers in order.

    Backends, and versions of jaxpg, differ in whether they know an environment's names.
    """
    numbers = numbered(len(trained.actions))
    return (
        trained.game == asked.game
        and len(asked.actions) == len(numbers)
        and numbers in (trained.actions, asked.actions)
    )
