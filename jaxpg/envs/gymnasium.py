"""Backend for Gymnasium: any environment with numbered actions, also one that the user registered."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Protocol

import numpy as np

from jaxpg.core.errors import FaultError
from jaxpg.core.types import EmulatorNeeds, EnvSpec, TimeStep
from jaxpg.envs.actions import ActionTable
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.gymnasium_group import Answers, LaneGroup, Making, make_lane
from jaxpg.envs.gymnasium_spaces import layout, observation_kind, offered_actions
from jaxpg.envs.gymnasium_workers import Workers
from jaxpg.envs.pictures import channels_last
from jaxpg.envs.seeds import check_seeds


class Gymnasium:
    """``N`` lanes of one Gymnasium environment, in this process or in processes of their own.

    Args:
      config: the settings.
      needs: what the observation needs.
      num_lanes: N.
      draws: whether ``picture`` is called. Then all lanes are in this process.

    Raises:
      UserError: the environment cannot be made, or has actions or observations that jaxpg does not take.
    """

    def __init__(self, config: EnvConfig, needs: EmulatorNeeds, num_lanes: int, *, draws: bool = False):
        making = Making(config.game, config.options, config.max_episode_agent_steps)
        self.num_lanes = num_lanes
        self._game = config.game
        one, warned = make_lane(making)
        self._layout = layout(one, needs)
        names, self._first_action = offered_actions(one)
        self._actions = ActionTable(names, config.actions, num_lanes)
        one.close()
        self.spec = EnvSpec(
            num_actions=len(self._actions),
            observation_shape=self._layout.shape,
            observation_dtype=self._layout.dtype,
            axes=channels_last(self._layout.shape),
            action_names=self._actions.names,
            remark=warned,
        )
        num_workers = -(-config.workers * num_lanes // config.num_lanes)
        self._lanes: _Lanes
        self._group: LaneGroup | None = None  # the lanes of this process
        if num_workers and not draws:
            self._lanes = Workers(
                making, num_lanes, min(num_workers, num_lanes), self._layout.given_shape, self._layout.given_dtype
            )
        else:
            self._group = LaneGroup(making, range(num_lanes), draws=draws)
            self._lanes = _InThisProcess(self._group)
        self._ended = np.ones(num_lanes, bool)
        self._no = np.zeros(num_lanes, bool)

    def reset(self, seeds: np.ndarray) -> None:
        check_seeds(seeds, self.num_lanes)
        self._ended = np.ones(self.num_lanes, bool)  # no action led to the first observation
        self._lanes.reset(seeds)

    def send(self, actions: np.ndarray) -> None:
        self._lanes.send(self._actions.translate(actions).astype(np.int64) + self._first_action)

    def recv(self) -> TimeStep:
        answers = self._lanes.recv()
        observation, reward = self._layout.convert(answers.observation), answers.reward.astype(np.float32)
        self._check_finite("reward", reward)
        if observation.dtype == np.float32:
            self._check_finite("observation", observation)
        acted, terminated = ~self._ended, answers.terminated.copy()
        truncated = answers.truncated & ~terminated
        self._ended = terminated | truncated
        return TimeStep(observation, reward, terminated, truncated, life_lost=self._no, acted=acted)

    def close(self) -> None:
        self._lanes.close()

    @property
    def agent_steps_per_second(self) -> float | None:
        return self._group.agent_steps_per_second if self._group else None

    def picture(self) -> np.ndarray | None:
        return self._group.picture() if self._group else None

    def _check_finite(self, what: str, numbers: np.ndarray) -> None:
        """Raises FaultError where a lane's numbers, ``f32[N, ...]``, are infinite or NaN."""
        if np.isfinite(numbers.sum()):
            return
        bad = ~np.isfinite(numbers).reshape(self.num_lanes, -1).all(axis=1)
        if bad.any():
            lane = int(np.argmax(bad))
            raise FaultError(f"{self._game}, lane {lane}: its {what} is not finite: {_short(numbers[lane])}")


def kind(config: EnvConfig) -> str:
    """What the environment is meant to show a policy: vector or picture.

    Raises:
      UserError: the environment cannot be made, or jaxpg does not take its observations.
    """
    env, _ = make_lane(Making(config.game, config.options, config.max_episode_agent_steps))
    with closing(env):
        return observation_kind(env)[0]


class _Lanes(Protocol):
    def reset(self, seeds: np.ndarray) -> None: ...
    def send(self, actions: np.ndarray) -> None: ...
    def recv(self) -> Answers: ...
    def close(self) -> None: ...


class _InThisProcess:
    """A group of lanes that works while its answer is waited for, so that the watchdog notices if it never comes."""

    def __init__(self, group: LaneGroup):
        self._group = group
        self._work: Callable[[], Answers] | None = None

    def reset(self, seeds: np.ndarray) -> None:
        self._work = partial(self._group.reset, seeds)

    def send(self, actions: np.ndarray) -> None:
        self._work = partial(self._group.step, actions)

    def recv(self) -> Answers:
        assert self._work is not None, "recv without reset or send"
        return self._work()

    def close(self) -> None:
        self._group.close()


def _short(numbers: np.ndarray) -> str:
    return str(numbers) if numbers.size <= 8 else f"{np.count_nonzero(~np.isfinite(numbers))} of {numbers.size} numbers"
