"""One iteration: all lanes play a rollout, and the learner learns from it."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core.types import Episodes, Experience
from jaxpg.kernel.clock import Seconds
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import Players
from jaxpg.parallel.team import Team


class IterationTotals(NamedTuple):
    """What all lanes of all processes did in one iteration."""

    episodes: Episodes  # the episodes that ended
    agent_steps: int  # of all lanes
    acted: int  # those of the agent steps that belong to an episode


def totals_of_all(team: Team, experiences: Sequence[Experience], num_lanes: int) -> IterationTotals:
    """Gathers the finished episodes and the agent steps of all processes.

    Args:
      team: all processes call this.
      experiences: what each of this process's devices played.
      num_lanes: N, of all processes.
    """
    own = {
        "episodes": [
            np.concatenate(columns).tolist() for columns in zip(*(e.episodes for e in experiences), strict=True)
        ],
        "agent_steps": max(len(experience.reward) for experience in experiences),
        "acted": sum(int(experience.acted.sum()) for experience in experiences),
    }
    said = team.gather(own)
    episodes = Episodes(
        *(
            np.array(list(itertools.chain(*columns)), np.float64 if name == "episode_return" else np.int64)
            for name, *columns in zip(Episodes._fields, *(one["episodes"] for one in said), strict=True)
        )
    )
    in_order = np.lexsort((episodes.lane, episodes.step))
    return IterationTotals(
        Episodes(*(column[in_order] for column in episodes)),
        max(one["agent_steps"] for one in said) * num_lanes,
        sum(one["acted"] for one in said),
    )


def play_and_learn(
    experiment: Experiment,
    players: Callable[[Any], list[Players]],
    team: Team,
    state: Any,
    key: jax.Array,
    progress: float,
) -> tuple[Any, IterationTotals, list[dict[str, float]], Seconds, float]:
    """Plays a rollout and learns from it, in one program where that is possible.

    Args:
      experiment: the parts of the run.
      players: ``state -> who plays on each device of this process``.
      team: all processes call this.
      state: the learner's state, which is consumed.
      key: the actions' randomness; in a population one key for each member.
      progress: the share of the schedules that is over.

    Returns:
      The new state, what all lanes did, the metrics of each member, the seconds of each phase of the rollout,
      and the time at which learning began. In one program everything counts as learning.
    """
    num_lanes = experiment.fleet.num_lanes * team.num_processes
    if experiment.whole_iterations:
        began = time.perf_counter()
        state, experience, on_device = experiment.whole_iterations(state, key, progress)
        played, seconds = totals_of_all(team, [experience], num_lanes), Seconds(0.0, 0.0)
    else:
        experiences, seconds = experiment.fleet.collect(players(state), experiment.rollout_agent_steps, key)
        played = totals_of_all(team, experiences, num_lanes)
        began = time.perf_counter()
        state, on_device = experiment.learner.tell(state, experiences, played.episodes, progress)
    numbers = {name: np.asarray(value).reshape(-1).tolist() for name, value in jax.device_get(on_device).items()}
    each: list[dict[str, float]] = [dict(zip(numbers, own, strict=True)) for own in zip(*numbers.values(), strict=True)]
    if not each:  # a learner without metrics
        each = [{}]
    return state, played, each, seconds, began
