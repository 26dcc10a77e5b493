"""Probes: tiny environments with a known optimum, each of which tests one property of a learner.

Probes follow EnvPool's convention exactly: after the end of an episode, the next action is ignored.
"""

from typing import NamedTuple

import numpy as np

from jaxpg.core.errors import UserError, check_name
from jaxpg.core.types import EmulatorNeeds, EnvSpec, TimeStep
from jaxpg.envs.actions import ActionTable, numbered
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import check_seeds


class _Problem(NamedTuple):
    length: int  # agent steps in an episode
    reward: str  # name of the rule in Probe._reward
    ends_by: str = "termination"
    optimum: float = 1.0  # highest possible mean return of an episode


PROBLEMS = {
    "Constant": _Problem(1, "one"),  # V = 1 whatever the action
    "Sign": _Problem(1, "sign_of_observation", optimum=0.0),  # V = +1 or -1, the sign in the observation
    "Delay": _Problem(2, "one_at_end"),  # V = discount, then 1
    "Bandit": _Problem(1, "action_is_one"),  # action 1 pays
    "Match": _Problem(1, "action_matches"),  # the action must match the observation
    "Recall": _Problem(4, "first_action_matches"),  # the first action pays at the end
    "Endless": _Problem(8, "one", ends_by="truncation", optimum=8.0),  # V = 1 / (1 - discount)
    "Count": _Problem(5, "count", optimum=15.0),  # reward 1, 2, 3, 4, 5
}
"""The problem of each probe, by its ``env.game`` name."""


class Probe:
    """``N`` lanes of one problem. A lane's observation ``f32[2]`` is a random sign and the fraction of time left.

    Raises:
      UserError: the problem is unknown, or the observation is not a vector.
    """

    def __init__(self, config: EnvConfig, needs: EmulatorNeeds, num_lanes: int):
        check_name("env.game", config.game, PROBLEMS)
        if needs.kind != "vector":
            raise UserError(
                f"observation.name: a probe gives a vector, not {needs.kind}; use --observation.name vector"
            )
        self.num_lanes = num_lanes
        self._problem = PROBLEMS[config.game]
        self._actions = ActionTable(numbered(2), config.actions, num_lanes)
        self.spec = EnvSpec(
            num_actions=len(self._actions),
            observation_shape=(2,),
            observation_dtype=np.dtype(np.float32),
            axes=(0,),
            action_names=self._actions.names,
        )
        self._rng: list[np.random.Generator] = []
        self._pending: TimeStep | None = None

    def reset(self, seeds: np.ndarray) -> None:
        check_seeds(seeds, self.num_lanes)
        n = self.num_lanes
        self._rng = [np.random.default_rng(int(s)) for s in seeds]
        self._clock = np.zeros(n, int)
        self._sign = np.array([g.choice((-1.0, 1.0)) for g in self._rng])
        self._first_action = np.zeros(n, int)
        self._ended = np.zeros(n, bool)
        no = np.zeros(n, bool)
        self._pending = TimeStep(self._observe(), np.zeros(n, np.float32), no, no, no, acted=no)

    def send(self, actions: np.ndarray) -> None:
        action = self._actions.translate(actions)
        acted = ~self._ended
        self._first_action = np.where(self._clock == 0, action, self._first_action)
        self._clock = np.where(acted, self._clock + 1, 0)
        at_end = self._clock == self._problem.length
        reward = np.where(acted, self._reward(action, at_end), 0.0)
        for lane in np.flatnonzero(self._ended):
            self._sign[lane] = self._rng[lane].choice((-1.0, 1.0))
        self._ended = acted & at_end
        no = np.zeros(self.num_lanes, bool)
        terminated = self._problem.ends_by == "termination"
        self._pending = TimeStep(
            observation=self._observe(),
            reward=reward.astype(np.float32),
            terminated=self._ended if terminated else no,
            truncated=no if terminated else self._ended,
            life_lost=no,
            acted=acted,
        )

    def recv(self) -> TimeStep:
        assert self._pending is not None, "recv without reset or send"
        pending, self._pending = self._pending, None
        return pending

    def close(self) -> None:
        self._pending = None

    def _observe(self) -> np.ndarray:
        time_left = 1.0 - self._clock / self._problem.length
        if self._problem.ends_by == "truncation":  # an endless problem looks the same at every agent step
            time_left = np.ones(self.num_lanes)
        return np.stack([self._sign, time_left], axis=1).astype(np.float32)

    def _reward(self, action: np.ndarray, at_end: np.ndarray) -> np.ndarray:
        wanted = (self._sign > 0).astype(int)
        match self._problem.reward:
            case "one":
                return np.ones(self.num_lanes)
            case "sign_of_observation":
                return self._sign
            case "one_at_end":
                return at_end.astype(float)
            case "action_is_one":
                return (action == 1).astype(float)
            case "action_matches":
                return (action == wanted).astype(float)
            case "first_action_matches":
                return at_end * (self._first_action == wanted)
            case _:  # count
                return self._clock.astype(float)
