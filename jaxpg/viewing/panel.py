"""One picture of a game and of the policy that plays it, side by side."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAME_SIZE = (560, 420)
"""Width and height of the game: 4:3, as on a television, and twice the console's 210 rows."""
PANEL_WIDTH = 400
SIZE = (GAME_SIZE[0] + PANEL_WIDTH, GAME_SIZE[1])
MARGIN, LINE = 16, 22
INK, PALE, BAR, CHOSEN, PAPER = (232, 232, 228), (150, 152, 150), (86, 98, 110), (250, 178, 80), (22, 24, 28)
MOST_BARS = 9
"""Actions whose probabilities are shown; of more, the most probable ones."""


class Moment(NamedTuple):
    """What the panel tells of one agent step."""

    title: str
    score: float  # of the game, before this agent step
    seconds: float  # of game time
    probabilities: np.ndarray  # f32[A]
    action: int
    value: float | None  # None without a value head
    input: np.ndarray  # the policy's input, f32[...]


class Panel:
    """Draws moments; ``action_names`` are the A actions' names."""

    def __init__(self, action_names: list[str]):
        self._names = action_names
        self._font = ImageFont.load_default(15)
        self._small = ImageFont.load_default(12)

    def draw(self, moment: Moment) -> np.ndarray:
        """The panel, ``uint8[420, 400, 3]``."""
        image = Image.new("RGB", (PANEL_WIDTH, SIZE[1]), PAPER)
        pen = ImageDraw.Draw(image)
        pen.text((MARGIN, 12), shorten(moment.title, 46), INK, self._font)
        minutes, seconds = divmod(int(moment.seconds), 60)
        value = "" if moment.value is None else f"   value {moment.value:.2f}"
        pen.text((MARGIN, 12 + LINE), f"score {moment.score:g}   {minutes}:{seconds:02d}{value}", INK, self._font)
        top = self._bars(pen, moment, 12 + 2 * LINE + 8)
        pen.text((MARGIN, top), "what the policy sees", PALE, self._small)
        picture = Image.fromarray(picture_of(moment.input))
        room = (PANEL_WIDTH - 2 * MARGIN, SIZE[1] - top - 18 - MARGIN)
        scale = min(room[0] / picture.width, room[1] / picture.height)
        size = (max(int(picture.width * scale), 1), max(int(picture.height * scale), 1))
        image.paste(picture.resize(size, Image.Resampling.NEAREST).convert("RGB"), (MARGIN, top + 18))
        return np.asarray(image)

    def _bars(self, pen: ImageDraw.ImageDraw, moment: Moment, top: int) -> int:
        """One bar for each action's probability; returns where the next thing may begin."""
        shown = np.sort(np.argsort(-moment.probabilities, kind="stable")[:MOST_BARS])
        left, width = 120, PANEL_WIDTH - 120 - 60
        for i in shown:
            probability = float(moment.probabilities[i])
            color = CHOSEN if i == moment.action else BAR
            pen.text((MARGIN, top), self._names[i].lower(), CHOSEN if i == moment.action else PALE, self._small)
            pen.rectangle((left, top + 2, left + round(width * probability), top + 12), color)
            pen.text((left + width + 8, top), f"{probability:.2f}", PALE, self._small)
            top += 16
        return top + 8


def picture_of(policy_input: np.ndarray) -> np.ndarray:
    """A policy's input as gray levels, ``uint8[H, W]``: the newest frame of a stack, a vector in rows of 16.

    Inputs with a sign have 0 at mid-gray; the others go from black to their largest value.
    """
    x = policy_input[..., -1] if policy_input.ndim == 3 else policy_input
    if x.ndim == 1:
        columns = 160 if x.size == 210 * 160 else min(x.size, 16)
        x = np.pad(x, (0, -x.size % columns)).reshape(-1, columns)
    most = max(float(np.abs(x).max()), 1e-9)
    level = (x / most + 1) / 2 if (x < 0).any() else x / most
    return np.round(level * 255).astype(np.uint8)


def scale_game(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The console's picture, ``uint8[210, 160, 3]``, at a width and height of the television's shape.

    No line of it is lost where the picture becomes smaller.
    """
    image = Image.fromarray(frame)
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def shorten(text: str, most: int) -> str:
    """The text with at most so many letters."""
    return text if len(text) <= most else text[: most - 3] + "..."
