"""Counters and statistics of a run, which every iteration updates and every checkpoint stores."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from jaxpg.core.run_config import MOST_MEMBERS
from jaxpg.core.types import Episodes
from jaxpg.core.validation import STRICT, Count, Measured, NonNegativeInt, Number

WINDOW_EPISODES = 100

_OF_WINDOW = (
    Field(max_length=WINDOW_EPISODES),
    AfterValidator(lambda numbers: collections.deque(numbers, maxlen=WINDOW_EPISODES)),
)
_Returns = Annotated[collections.deque[Measured], *_OF_WINDOW]
_Lengths = Annotated[collections.deque[Count], *_OF_WINDOW]


def _window() -> collections.deque[Any]:
    return collections.deque(maxlen=WINDOW_EPISODES)


class _Counted:
    """What the episodes and metrics of a run, or of a member of a population, say."""

    episodes: int
    metrics: dict[str, int | float]
    last_returns: collections.deque[float]
    last_lengths: collections.deque[int]

    @property
    def return_mean_100(self) -> float | None:
        """Mean return of the last 100 episodes, or of all episodes while there are fewer; None before the first."""
        return _mean(self.last_returns)

    @property
    def length_mean_100(self) -> float | None:
        """Mean agent steps of the same episodes; None before the first episode has ended."""
        return _mean(self.last_lengths)

    def score(self, metric: str) -> float | None:
        """How good the policy is, for choosing the best checkpoint; None where too few episodes were played to say.

        Args:
          metric: name of the learner's metric that is the score. Where it is empty, the score is the mean return of
            the last 100 episodes, and None while there are fewer.
        """
        if metric:
            return self.metrics.get(metric)
        return self.return_mean_100 if len(self.last_returns) == WINDOW_EPISODES else None

    def has_reached(self, target: float) -> bool:
        """Whether the mean return of the last 100 episodes is at least the target; False while there are fewer."""
        mean = self.return_mean_100
        return len(self.last_returns) == WINDOW_EPISODES and mean is not None and mean >= target

    def count(self, metrics: dict[str, float], returns: Sequence[float], lengths: Sequence[int]) -> None:
        """Counts the metrics of one iteration, and the episodes that ended in it."""
        self.metrics |= metrics
        self.episodes += len(returns)
        self.last_returns.extend(returns)
        self.last_lengths.extend(lengths)

    def forget_returns(self) -> None:
        """Clears the statistics of returns."""
        self.last_returns.clear()
        self.last_lengths.clear()
        self.metrics.clear()


@dataclasses.dataclass
class MemberProgress(_Counted):
    """The newest statistics of one member of a population."""

    __pydantic_config__ = STRICT

    episodes: Count = 0
    metrics: dict[str, Number] = dataclasses.field(default_factory=dict)
    """The newest value of each of the learner's metrics."""
    last_returns: _Returns = dataclasses.field(default_factory=_window)
    """Returns of the last 100 finished episodes."""
    last_lengths: _Lengths = dataclasses.field(default_factory=_window)
    """Agent steps of the last 100 finished episodes."""

    def to_json(self) -> dict[str, Any]:
        """Converts the statistics into lists and numbers that JSON can hold."""
        return {**vars(self), "last_returns": list(self.last_returns), "last_lengths": list(self.last_lengths)}


@dataclasses.dataclass
class RunProgress(_Counted):
    """How far a run is, and its newest statistics.

    In a population each member has its own returns; the metrics here are the members' means, and the score is the best
    member's.
    """

    __pydantic_config__ = STRICT

    iteration: NonNegativeInt = 0
    agent_steps: Count = 0
    """Agent steps of all lanes, including autoreset steps; in a population those of one member."""
    episodes: Count = 0
    """Episodes that have ended, those of all members."""
    wall_seconds: Annotated[Measured, Field(ge=0)] = 0.0
    """Seconds of training, summed over the run's interruptions and resumptions."""
    segment: NonNegativeInt = 0
    """Number of the current segment: how often the emulators were restarted with new seeds."""
    metrics: dict[str, Number] = dataclasses.field(default_factory=dict)
    """The newest value of each of the learner's metrics."""
    last_returns: _Returns = dataclasses.field(default_factory=_window)
    """Returns of the last 100 finished episodes."""
    last_lengths: _Lengths = dataclasses.field(default_factory=_window)
    """Agent steps of the last 100 finished episodes."""
    best_iteration: NonNegativeInt | None = None
    """Iteration of the checkpoint with the highest score so far; None where no checkpoint has a score yet."""
    best_score: Measured | None = None
    """Score of the checkpoint of ``best_iteration``."""
    members: Annotated[list[MemberProgress], Field(max_length=MOST_MEMBERS)] = dataclasses.field(default_factory=list)
    """The members of a population; empty where there is none."""

    @property
    def return_mean_100(self) -> float | None:
        """As for one member; in a population the mean over its members."""
        means = [member.return_mean_100 for member in self.members]
        if not means:
            return super().return_mean_100
        return _mean([mean for mean in means if mean is not None])

    @property
    def best_member(self) -> int:
        """Number of the member with the highest mean return among those with 100 episodes, or else among all."""
        whole = [len(member.last_returns) == WINDOW_EPISODES for member in self.members]
        means = [member.return_mean_100 for member in self.members]
        return max(range(len(means)), key=lambda i: (whole[i], -math.inf if means[i] is None else means[i]))

    @property
    def fewest_episodes(self) -> int:
        """Episodes of the member that has played fewest."""
        return min((member.episodes for member in self.members), default=self.episodes)

    def score(self, metric: str) -> float | None:
        """As for one member; in a population the best member's."""
        return self._best.score(metric) if self.members else super().score(metric)

    def has_reached(self, target: float) -> bool:
        """As for one member; in a population, whether every member has."""
        return all(one.has_reached(target) for one in self.members) if self.members else super().has_reached(target)

    @property
    def _best(self) -> _Counted:
        return self.members[self.best_member] if self.members else self

    def count_all(self, metrics: Sequence[dict[str, float]], episodes: Episodes, lanes_of_member: int) -> None:
        """Counts the metrics of one iteration, one mapping for each member, and the episodes that ended in it."""
        returns, lengths = episodes.episode_return.tolist(), episodes.length_agent_steps.tolist()
        if not self.members:
            self.count(metrics[0], returns, lengths)
            return
        self.episodes += len(returns)
        self.metrics |= {name: float(np.mean([own[name] for own in metrics])) for name in metrics[0]}
        for number, (member, own) in enumerate(zip(self.members, metrics, strict=True)):
            mine = np.flatnonzero(episodes.lane // lanes_of_member == number).tolist()
            member.count(own, [returns[i] for i in mine], [lengths[i] for i in mine])

    def note_best(self, metric: str) -> None:
        """Notes the current iteration as the best checkpoint if no earlier checkpoint has a score as high."""
        score = self.score(metric)
        if score is not None and (self.best_score is None or score > self.best_score):
            self.best_iteration, self.best_score = self.iteration, score

    def is_notably_best(self, metric: str) -> bool:
        """Whether the score beats the best checkpoint's by more than the standard error of the last 100 returns' mean.

        Where no checkpoint has a score yet, any score does.
        """
        score = self.score(metric)
        if score is None or self.best_score is None or score <= self.best_score:
            return score is not None and self.best_score is None
        last_returns = self._best.last_returns
        return score > self.best_score + statistics.pstdev(last_returns) / math.sqrt(len(last_returns))

    def forget_returns(self) -> None:
        """Clears the statistics of returns and the best checkpoint.

        A resumed run calls this when its configuration changes what a return means.
        """
        super().forget_returns()
        for member in self.members:
            member.forget_returns()
        self.best_iteration = self.best_score = None

    def to_json(self) -> dict[str, Any]:
        """Converts the progress into lists and numbers that JSON can hold."""
        content = {**vars(self), "last_returns": list(self.last_returns), "last_lengths": list(self.last_lengths)}
        del content["members"]
        return content | ({"members": [member.to_json() for member in self.members]} if self.members else {})


def _mean(numbers: Collection[Any]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
