"""Counting candidates' games: what search and evolution share."""

from collections.abc import Callable

import jax
import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import Params


def add_episodes(
    return_sums: jax.Array, num_games: jax.Array, positions: np.ndarray, returns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adds finished games to their candidates' sums.

    Args:
      return_sums: ``f32[C]``.
      num_games: ``i32[C]``.
      positions: ``i64[K]``, the place in these arrays of each game's candidate.
      returns: ``f64[K]``.

    Returns:
      The new sums and numbers of games, on the host.
    """
    sums, counts = np.array(return_sums), np.array(num_games)
    np.add.at(sums, positions, returns.astype(sums.dtype))
    np.add.at(counts, positions, 1)
    return sums, counts


def missing_episodes(ids: np.ndarray, num_games: jax.Array, wanted: int) -> np.ndarray:
    """``i64[J]``: each candidate of ``ids`` (``i64[C]``) as often as it has games left to play."""
    return np.repeat(ids, np.maximum(wanted - np.asarray(num_games), 0))


def best_scored(
    return_sums: jax.Array, num_games: jax.Array, wanted: int, ask: Callable[[int], Params], *, unfinished: str
) -> tuple[Params, str]:
    """The best candidate of a first round that is not over, among those whose games are all played, and a remark.

    Args:
      return_sums: ``f32[C]``.
      num_games: ``i32[C]``.
      wanted: games of each candidate.
      ask: a candidate's place -> its params.
      unfinished: what is not over yet, for sentences.

    Raises:
      UserError: there is none.
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
