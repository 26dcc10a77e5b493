"""Plays a number of whole episodes with one policy, as an evaluation does."""

from collections.abc import Callable

import jax
import numpy as np

from jaxpg.core.types import Episodes, Params
from jaxpg.kernel.players import CandidateQueue, beginning
from jaxpg.kernel.rollout import AGENT_STEPS_PER_LOOK, Rollout


def play_episodes(
    rollout: Rollout, params: Params, num_games: int, key: jax.Array, ended: Callable[[int], None] = lambda count: None
) -> Episodes:
    """Plays exactly K whole episodes with one policy and returns them.

    Every episode that was begun counts. The first K episodes to end would be a biased choice, because short episodes
    end first.

    Args:
      rollout: reset; keeps no tape.
      params: the policy's weights.
      num_games: K.
      key: the actions' randomness.
      ended: called after each rollout with the number of episodes that ended in it.
    """
    games = beginning(np.zeros(num_games, np.int64), rollout.num_lanes, num_groups=1)
    queue = CandidateQueue(games, lambda ids: jax.tree.map(lambda x: x[None], params))
    played: list[Episodes] = []
    while not queue.finished:
        part_key = jax.random.fold_in(key, len(played))
        experience, _ = rollout.collect(queue, AGENT_STEPS_PER_LOOK, part_key)
        episodes = experience.episodes
        played.append(episodes._replace(step=episodes.step + len(played) * AGENT_STEPS_PER_LOOK))
        ended(episodes.lane.size)
    return Episodes(*(np.concatenate(columns) for columns in zip(*played, strict=True)))
