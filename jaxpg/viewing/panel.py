"""Draws the panel beside a recorded game: score, action probabilities, value, and what the policy sees."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAME_SIZE = (560, 420)
"""Width and height of the game in the video: 4:3 as on a television, with two rows for each of the console's 210."""
PANEL_WIDTH = 400
SIZE = (GAME_SIZE[0] + PANEL_WIDTH, GAME_SIZE[1])
MARGIN, LINE = 16, 22
INK, PALE, BAR, CHOSEN, PAPER = (232, 232, 228), (150, 152, 150), (86, 98, 110), (250, 178, 80), (22, 24, 28)
MOST_BARS = 9
"""How many actions are shown at most. Where there are more, the most probable ones are shown."""


class Moment(NamedTuple):
    """What the panel shows of one agent step."""

    title: str
    score: float  # sum of the episode's rewards before this agent step
    seconds: float  # game time since the episode began
    probabilities: np.ndarray  # f32[A]
    action: int  # the action that was chosen
    value: float | None  # None where the policy has no value head
    input: np.ndarray  # the policy's input, f32[...]


class Panel:
    """Draws the panel for one moment after another.

    Args:
      action_names: names of the A actions.
    """

    def __init__(self, action_names: list[str]):
        self._names = action_names

    def draw(self, moment: Moment) -> np.ndarray:
        """Draws the panel, ``uint8[420, 400, 3]``."""
        image = Image.new("RGB", (PANEL_WIDTH, SIZE[1]), PAPER)
        image.paste(written(shorten(moment.title, 46), 15, INK), (MARGIN, 12))
        minutes, seconds = divmod(int(moment.seconds), 60)
        score = written(f"score {moment.score:g}   {minutes}:{seconds:02d}   ", 15, INK)
        image.paste(score, (MARGIN, 12 + LINE))
        if moment.value is not None:
            image.paste(written(f"value {moment.value:.2f}", 15, INK), (MARGIN + score.width, 12 + LINE))
        top = self._bars(image, moment, 12 + 2 * LINE + 8)
        image.paste(written("what the policy sees", 12, PALE), (MARGIN, top))
        picture = Image.fromarray(picture_of(moment.input))
        room = (PANEL_WIDTH - 2 * MARGIN, SIZE[1] - top - 18 - MARGIN)
        scale = min(room[0] / picture.width, room[1] / picture.height)
        size = (max(int(picture.width * scale), 1), max(int(picture.height * scale), 1))
        image.paste(picture.resize(size, Image.Resampling.NEAREST).convert("RGB"), (MARGIN, top + 18))
        return np.asarray(image)

    def _bars(self, image: Image.Image, moment: Moment, top: int) -> int:
        """Draws a bar for each action's probability; returns the row below the bars."""
        pen = ImageDraw.Draw(image)
        shown = np.sort(np.argsort(-moment.probabilities, kind="stable")[:MOST_BARS])
        left, width = 120, PANEL_WIDTH - 120 - 60
        for i in shown:
            probability = float(moment.probabilities[i])
            bar, ink = (CHOSEN, CHOSEN) if i == moment.action else (BAR, PALE)
            image.paste(written(self._names[i].lower(), 12, ink), (MARGIN, top))
            pen.rectangle((left, top + 2, left + round(width * probability), top + 12), bar)
            image.paste(written(f"{probability:.2f}", 12, PALE), (left + width + 8, top))
            top += 16
        return top + 8


def picture_of(policy_input: np.ndarray) -> np.ndarray:
    """Draws a policy's input as gray levels, ``uint8[H, W]``; a picture in colour as it is, ``uint8[H, W, 3]``.

    Of two channels, such as a frame and its motion, the second is drawn to the right of the first. Of a larger stack of
    frames only the newest is drawn; a vector is drawn in rows of 16. Where a channel has negative numbers, 0 is
    mid-gray. Otherwise 0 is black and the largest value is white.
    """
    if policy_input.ndim == 3 and policy_input.shape[-1] == 3 and policy_input.dtype == np.uint8:
        return policy_input
    if policy_input.ndim == 3 and policy_input.shape[-1] == 2:
        return np.concatenate([picture_of(policy_input[..., channel]) for channel in (0, 1)], axis=1)
    x = policy_input[..., -1] if policy_input.ndim == 3 else policy_input
    if x.ndim == 1:
        columns = 160 if x.size == 210 * 160 else min(x.size, 16)
        x = np.pad(x, (0, -x.size % columns)).reshape(-1, columns)
    most = max(float(np.abs(x).max()), 1e-9)
    level = (x / most + 1) / 2 if (x < 0).any() else x / most
    return np.round(level * 255).astype(np.uint8)


@lru_cache(maxsize=1000)
def written(text: str, size: int, ink: tuple[int, int, int]) -> Image.Image:
    """Draws a line of text on the panel's paper, as wide as the panel at most. Cached, because most lines come back."""
    font = ImageFont.load_default(size)
    line = text.replace("\n", " ")
    image = Image.new("RGB", (min(math.ceil(font.getlength(line)), PANEL_WIDTH), LINE), PAPER)
    ImageDraw.Draw(image).text((0, 0), line, ink, font)
    return image


def scale_game(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales a picture, ``uint8[H, W, 3]``, to a width and height.

    An Atari game's picture (160 columns, and at least 210 rows) fills it, because a television's pixels are not square.
    Any other picture keeps its shape. A smaller picture averages the pixels of the original, so that thin lines do not
    vanish; a larger one shows them as squares.
    """
    height, width = frame.shape[:2]
    if width == 160 and height >= 210:
        return _resized(frame, size)
    scale = min(size[0] / width, size[1] / height)
    inner = (max(round(width * scale), 1), max(round(height * scale), 1))
    whole = np.full((size[1], size[0], 3), PAPER, np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    whole[top : top + inner[1], left : left + inner[0]] = _resized(frame, inner)
    return whole


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture of another width and height; NumPy enlarges seven times as fast as Pillow."""
    if size[0] < frame.shape[1] or size[1] < frame.shape[0]:
        return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    columns, rows = (_nearest(frame.shape[1], size[0]), _nearest(frame.shape[0], size[1]))
    return frame.take(columns, axis=1).take(rows, axis=0)


def _nearest(old: int, new: int) -> np.ndarray:
    """Which of ``old`` pixels lies under each of ``new`` ones."""
    return ((np.arange(new) + 0.5) * old / new).astype(int)


def shorten(text: str, most: int) -> str:
    """Cuts ``text`` to at most ``most`` characters."""
    return text if len(text) <= most else text[: most - 3] + "..."
