"""Draws observations for a video, where an environment has no picture of its own."""

import colorsys
from collections.abc import Iterator

import numpy as np
from PIL import Image

from jaxpg.viewing.panel import BAR, CHOSEN, GAME_SIZE, PAPER

FRAMES_PER_AGENT_STEP = 4
"""Frames of the video that show one agent step, as with an Atari game's usual frame skip."""


def drawn_frames(observations: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Draws an episode: for each agent step its frames, which are one picture several times.

    Args:
      observations: ``[T, D]``, ``[T, H, W]`` or ``[T, H, W, C]``.

    Yields:
      A list of ``uint8[420, 560, 3]``.
    """
    most = np.abs(observations.astype(np.float32)).max(axis=0 if observations.ndim == 2 else None)
    for observation in observations:
        draw = draw_bars if observation.ndim == 1 else draw_picture
        yield [draw(observation, np.maximum(most, 1e-9))] * FRAMES_PER_AGENT_STEP


def draw_bars(numbers: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Draws each number as a bar up or down from the middle, ``uint8[420, 560, 3]``.

    Args:
      numbers: ``[D]``.
      most: ``f32[D]``, the largest absolute value of each, which fills half of the height.
    """
    width, height = GAME_SIZE
    picture = np.full((height, width, 3), PAPER, np.uint8)
    middle, edges = height // 2, np.linspace(0, width, len(numbers) + 1).astype(int)
    for number, share in enumerate(np.asarray(numbers, np.float32) / most):
        gap = (edges[number + 1] - edges[number]) // 8
        columns = slice(edges[number] + gap, edges[number + 1] - gap)
        top, bottom = sorted((middle, middle - round(float(share) * (middle - 10))))
        picture[top:bottom, columns] = CHOSEN if share > 0 else BAR
    picture[middle] = BAR
    return picture


def draw_picture(pixels: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Draws a small picture as large as it fits, ``uint8[420, 560, 3]``.

    Three channels of bytes are red, green and blue. Any other channels get a colour each; where several have something
    in one pixel, the last one is seen, because it lies on top.

    Args:
      pixels: ``[H, W]`` or ``[H, W, C]``.
      most: the largest absolute value of all, which has full brightness.
    """
    levels = np.abs(pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)) / most
    channels = levels.shape[2]
    if pixels.dtype == np.uint8 and channels == 3:
        colored = pixels
    else:
        palette = np.array([colorsys.hsv_to_rgb(channel / channels, 0.6, 1.0) for channel in range(channels)])
        if channels == 1:
            palette = np.ones((1, 3))
        top = channels - 1 - np.argmax(levels[..., ::-1] > 0, axis=-1)
        brightness = np.take_along_axis(levels, top[..., None], axis=-1)
        colored = np.round(255 * palette[top] * brightness).astype(np.uint8)
    width, height = GAME_SIZE
    scale = min(width / colored.shape[1], height / colored.shape[0])
    size = (max(int(colored.shape[1] * scale), 1), max(int(colored.shape[0] * scale), 1))
    sheet = Image.new("RGB", GAME_SIZE, PAPER)
    large = Image.fromarray(colored).resize(size, Image.Resampling.NEAREST)
    sheet.paste(large, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(sheet)
