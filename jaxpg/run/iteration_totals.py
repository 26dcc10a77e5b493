"""What all lanes of all processes did in one iteration."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpg.core.types import Episodes, Experience
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
