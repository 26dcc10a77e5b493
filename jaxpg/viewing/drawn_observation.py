"""Draws what an environment without pictures of its own shows."""

import numpy as np

from jaxpg.viewing.panel import BAR, CHOSEN, GAME_SIZE, PALE, PAPER, picture_of


def draw_observation(observation: np.ndarray) -> np.ndarray:
    """Draws an observation as a picture, ``uint8[H, W, 3]``.

    A picture is drawn as it is; of channels that are no colours, the largest number of each pixel is drawn. A vector is
    drawn as a row of bars, upwards from the middle for positive numbers and downwards for negative ones. A number x has
    the length ``x / (1 + |x|)`` of the longest bar, so that any number has its place.
    """
    if observation.ndim == 1:
        return _bars(observation.astype(np.float64))
    if observation.ndim == 3 and observation.shape[2] == 3 and observation.dtype == np.uint8:
        return observation
    gray = picture_of(observation.max(axis=2).astype(np.float32) if observation.ndim == 3 else observation)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _bars(numbers: np.ndarray) -> np.ndarray:
    width, height = GAME_SIZE
    picture = np.full((height, width, 3), PAPER, np.uint8)
    middle = height // 2
    lengths = np.round(numbers / (1 + np.abs(numbers)) * (middle - 2)).astype(int)
    edges = np.linspace(0, width, numbers.size + 1).astype(int)
    gap = int(width > 4 * numbers.size)
    for length, left, right in zip(lengths, edges, edges[1:], strict=False):
        top, bottom = (middle - length, middle) if length > 0 else (middle, middle - length)
        picture[top:bottom, left + gap : right - gap] = CHOSEN if length > 0 else BAR
    picture[middle] = PALE
    return picture
