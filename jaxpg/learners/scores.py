"""Counting candidates' games: what search and evolution share."""

import jax
import numpy as np


def add_games(
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


def missing_games(ids: np.ndarray, num_games: jax.Array, wanted: int) -> np.ndarray:
    """``i64[J]``: each candidate of ``ids`` (``i64[C]``) as often as it has games left to play."""
    return np.repeat(ids, np.maximum(wanted - np.asarray(num_games), 0))
