"""Counts candidates' episodes, for search and evolution."""

from collections.abc import Callable

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import Params


def add_episodes(
    return_sums: jax.Array, num_games: jax.Array, positions: np.ndarray, returns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adds K finished episodes to the sums of their candidates.

    Args:
      return_sums: ``f32[C]``, sum of each candidate's returns so far.
      num_games: ``i32[C]``, number of each candidate's episodes so far.
      positions: ``i64[K]``, index in these arrays of each episode's candidate.
      returns: ``f64[K]``, return of each episode.

    Returns:
      The new sums and numbers of episodes, on the host.
    """
    sums, counts = np.array(return_sums), np.array(num_games)
    np.add.at(sums, positions, returns.astype(sums.dtype))
    np.add.at(counts, positions, 1)
    return sums, counts


def missing_episodes(ids: np.ndarray, num_games: jax.Array, wanted: int) -> np.ndarray:
    """Repeats each id as often as its candidate has episodes left to play, ``i64[J]``.

    Args:
      ids: ``i64[C]``, the candidates.
      num_games: ``i32[C]``, number of each candidate's episodes so far.
      wanted: episodes of each candidate in the round.
    """
    return np.repeat(ids, np.maximum(wanted - np.asarray(num_games), 0))


def best_scored(
    return_sums: jax.Array, num_games: jax.Array, wanted: int, ask: Callable[[int], Params], *, unfinished: str
) -> tuple[Params, str]:
    """Finds the best candidate of a first round that is not over, among those that have played all their episodes.

    Args:
      return_sums: ``f32[C]``, sum of each candidate's returns so far.
      num_games: ``i32[C]``, number of each candidate's episodes so far.
      wanted: episodes of each candidate in the round.
      ask: ``index of a candidate -> its params``.
      unfinished: what is not over yet, for the remark and the error.

    Returns:
      The candidate's params and a remark for the user.

    Raises:
      UserError: no candidate has played all its episodes.
    """
    sums, counts = np.asarray(return_sums), np.asarray(num_games)
    scored = counts >= wanted
    if not scored.any():
        raise UserError(f"{unfinished} is not over, and no candidate has played all its games yet; train on first")
    best = int(np.where(scored, sums, -np.inf).argmax())
    return ask(best), (
        f"{unfinished} is not over; this is candidate {best}, the best of the {scored.sum()} of {len(counts)} that "
        f"have played all their games, with {sums[best] / counts[best]:.1f} a game"
    )
