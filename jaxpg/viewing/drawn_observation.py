"""Draws what an environment without pictures of its own shows."""

import colorsys

import numpy as np

from jaxpg.viewing.panel import BAR, CHOSEN, GAME_SIZE, PALE, PAPER, picture_of


def draw_observation(observation: np.ndarray) -> np.ndarray:
    """Draws an observation as a picture, ``uint8[H, W, 3]``.

    A picture is drawn as it is. Channels that are not red, green and blue bytes get a colour each; where several have
    something in one pixel, the last one is seen, because it lies on top. A vector is drawn as a row of bars, upwards
    from the middle for positive numbers and downwards for negative ones. A number x has the length ``x / (1 + |x|)`` of
    the longest bar, so that any number has its place.
    """
    if observation.ndim == 1:
        return _bars(observation.astype(np.float64))
    if observation.ndim == 3 and observation.shape[2] == 3 and observation.dtype == np.uint8:
        return observation
    if observation.ndim == 3 and observation.shape[2] > 1:
        return _colored(np.abs(observation.astype(np.float32)))
    gray = picture_of(observation.reshape(observation.shape[:2]).astype(np.float32))
    return np.repeat(gray[:, :, None], 3, axis=2)


def _colored(channels: np.ndarray) -> np.ndarray:
    """Draws ``[H, W, C]`` with a colour for each channel; the largest number of all has full brightness."""
    count = channels.shape[2]
    palette = np.array([colorsys.hsv_to_rgb(number / count, 0.6, 1.0) for number in range(count)])
    on_top = count - 1 - np.argmax(channels[..., ::-1] > 0, axis=-1)
    brightness = np.take_along_axis(channels, on_top[..., None], axis=-1) / max(channels.max(), 1e-9)
    return np.round(255 * palette[on_top] * brightness).astype(np.uint8)


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
