"""The picture of several games: how it is laid out, and what stands in it when."""

import numpy as np
import pytest

from jaxpg.viewing.grid import CAPTION_HEIGHT, DIMMED, GAP, MOST_WIDTH, Grid, Shot, pictures
from jaxpg.viewing.panel import PAPER


def _shot(level: int, title: str = "Pong", score: float = 0.0) -> Shot:
    return Shot(title, score, 0.0, np.full((210, 160, 3), level, np.uint8))


@pytest.mark.parametrize(
    ("tiles", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3), (10, 4, 3)]
)
def test_tiles_stand_in_a_near_square_that_no_encoder_refuses(tiles: int, columns: int, rows: int) -> None:
    grid = Grid(tiles)
    width, height = grid.game_size
    assert grid.size == (GAP + columns * (width + GAP), GAP + rows * (height + CAPTION_HEIGHT + GAP))
    assert grid.picture.shape == (grid.size[1], grid.size[0], 3)
    assert width * 3 == height * 4
    assert grid.size[0] % 2 == grid.size[1] % 2 == 0
    assert grid.size[0] <= MOST_WIDTH + GAP


def test_a_tile_has_its_own_place_and_unused_ones_stay_dark() -> None:
    grid = Grid(5)
    width, height = grid.game_size
    for tile in range(5):
        grid.show(tile, _shot(40 * (tile + 1)))
    for place in range(6):
        row, column = divmod(place, 3)
        left, top = GAP + column * (width + GAP), GAP + row * (height + CAPTION_HEIGHT + GAP)
        game = grid.picture[top + CAPTION_HEIGHT : top + CAPTION_HEIGHT + height, left : left + width]
        wanted = (40 * (place + 1),) * 3 if place < 5 else PAPER
        assert (game == wanted).all()
        caption = grid.picture[top : top + CAPTION_HEIGHT, left : left + width]
        assert (caption != PAPER).any() == (place < 5)


def test_the_caption_follows_the_score_and_the_time() -> None:
    grid, seen = Grid(1), set()
    for shot in (_shot(0), _shot(0, score=1.0), _shot(0)._replace(seconds=61.0), _shot(0, title="Ms")):
        grid.show(0, shot)
        seen.add(grid.picture.tobytes())
    assert len(seen) == 4
    grid.show(0, _shot(0)._replace(seconds=0.9))
    assert grid.picture.tobytes() in seen, "whole seconds"


def test_a_game_that_has_ended_is_dimmed_until_the_last_one_has() -> None:
    grid = Grid(2)
    asked = []

    def game(levels: list[int]):
        for level in levels:
            asked.append(level)
            yield _shot(level)

    centres = []
    for picture in pictures(grid, [game([100, 110]), game([200, 210, 220, 230])]):
        y = GAP + CAPTION_HEIGHT + 100
        centres.append([int(picture[y, GAP + 100, 0]), int(picture[y, -GAP - 100, 0])])
    assert centres == [[100, 200], [110, 210], [110 * DIMMED, 220], [110 * DIMMED, 230]]
    assert asked == [100, 200, 110, 210, 220, 230], "frame by frame, in step"
