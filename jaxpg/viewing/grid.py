"""Draws several episodes side by side in one picture, each under a caption."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxpg.viewing.panel import INK, PALE, PAPER, scale_game, shorten

MOST_WIDTH = 1920
"""Largest width of the picture in pixels. With more columns, each game is drawn smaller."""
GAME_WIDTH = 480
CAPTION_HEIGHT, GAP = 44, 8
DIMMED = 0.4
"""Brightness of a tile whose last episode has ended, relative to the others."""


class Shot(NamedTuple):
    """One emulator frame of one episode, with its caption."""

    title: str
    score: float  # sum of the episode's rewards so far, including the reward of this agent step
    seconds: float  # game time since the episode began
    frame: np.ndarray  # uint8[H, W, 3]


class Grid:
    """A picture with ``num_tiles`` tiles, filled row by row; each tile shows one episode after another."""

    def __init__(self, num_tiles: int):
        self._columns = num_tiles if num_tiles <= 3 else math.ceil(math.sqrt(num_tiles))
        rows = math.ceil(num_tiles / self._columns)
        width = min(GAME_WIDTH, MOST_WIDTH // self._columns - GAP)
        width -= width % 8  # makes the height even too
        self.game_size = (width, width * 3 // 4)
        self._step = (width + GAP, self.game_size[1] + CAPTION_HEIGHT + GAP)
        self.size = (GAP + self._columns * self._step[0], GAP + rows * self._step[1])
        """Width and height of the picture, both even."""
        self.picture = np.full((self.size[1], self.size[0], 3), PAPER, np.uint8)
        self._font, self._small = ImageFont.load_default(15), ImageFont.load_default(12)
        self._captions = [""] * num_tiles

    def show(self, tile: int, shot: Shot) -> None:
        """Draws ``shot`` in one tile."""
        left, top = self._corner(tile)
        width, height = self.game_size
        below = top + CAPTION_HEIGHT
        self.picture[below : below + height, left : left + width] = scale_game(shot.frame, self.game_size)
        minutes, seconds = divmod(int(shot.seconds), 60)
        numbers = f"score {shot.score:g}   {minutes}:{seconds:02d}"
        if self._captions[tile] != shot.title + numbers:  # most frames leave the caption as it is
            self._captions[tile] = shot.title + numbers
            self.picture[top:below, left : left + width] = self._caption(shot.title, numbers)

    def dim(self, tile: int) -> None:
        """Darkens a tile whose last episode has ended."""
        left, top = self._corner(tile)
        part = self.picture[top : top + self._step[1] - GAP, left : left + self.game_size[0]]
        part[:] = np.round(part * DIMMED)

    def _corner(self, tile: int) -> tuple[int, int]:
        row, column = divmod(tile, self._columns)
        return GAP + column * self._step[0], GAP + row * self._step[1]

    def _caption(self, title: str, numbers: str) -> np.ndarray:
        image = Image.new("RGB", (self.game_size[0], CAPTION_HEIGHT), PAPER)
        pen = ImageDraw.Draw(image)
        pen.text((0, 2), shorten(title, self.game_size[0] // 9), INK, self._font)
        pen.text((0, 24), numbers, PALE, self._small)
        return np.asarray(image)


def pictures(grid: Grid, games: Sequence[Iterator[Shot]]) -> Iterator[np.ndarray]:
    """Yields the picture at every frame until the last tile has nothing more to show.

    Every picture is the same array, which the next one overwrites.

    Args:
      grid: a grid with as many tiles as there are ``games``.
      games: the shots of each tile, frame by frame. They are produced one at a time, so that none is kept in memory.
    """
    going = dict(enumerate(games))
    while True:
        for tile, game in list(going.items()):
            shot = next(game, None)
            if shot is None:
                del going[tile]
                grid.dim(tile)
            else:
                grid.show(tile, shot)
        if not going:
            return
        yield grid.picture
