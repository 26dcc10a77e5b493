"""The panel beside a game: what it shows of the policy's probabilities, and of what the policy sees."""

import numpy as np
import pytest
from PIL import Image

from jaxpg.viewing.panel import GAME_SIZE, Moment, Panel, picture_of, scale_game


def _moment(**changes) -> Moment:
    moment = Moment("Pong", 3.0, 65.0, np.array([0.75, 0.25]), 0, 0.5, np.zeros((5, 4)))
    return moment._replace(**changes)


def test_the_panel_shows_the_probabilities_as_lengths() -> None:
    panel = Panel(["UP", "DOWN"])
    image = panel.draw(_moment())
    assert image.shape == (420, 400, 3)
    orange, gray = ((image == color).all(axis=-1) for color in ((250, 178, 80), (86, 98, 110)))
    lengths = [rows.sum(axis=1).max() for rows in (orange, gray)]
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=3), "the chosen action's bar is orange"
    assert not np.array_equal(image, panel.draw(_moment(value=None)))
    assert not np.array_equal(image, panel.draw(_moment(score=4.0)))
    many = Panel([str(i) for i in range(18)]).draw(_moment(probabilities=np.full(18, 1 / 18), action=17))
    assert many.shape == image.shape
    assert Panel(["", "a long\nname" * 99]).draw(_moment()).shape == image.shape, "whatever an environment calls them"


def test_what_the_policy_sees_becomes_gray_levels() -> None:
    signed = picture_of(np.array([[-2.0, 0.0], [1.0, 2.0]]))
    assert signed.tolist() == [[0, 128], [191, 255]]
    assert picture_of(np.array([[0.0, 0.5], [1.0, 0.25]])).tolist() == [[0, 128], [255, 64]]
    stack = np.zeros((3, 3, 4))
    stack[1, 1, 3] = 1
    assert picture_of(stack)[1, 1] == 255, "the newest frame of a stack"
    colours = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(picture_of(colours), colours), "a picture in colour as it is"
    motion = np.stack([np.eye(2), -np.eye(2)], axis=-1)
    assert picture_of(motion).tolist() == [[255, 0, 0, 128], [0, 255, 128, 0]], "a frame, and its motion beside it"
    assert picture_of(np.ones(128)).shape == (8, 16)
    assert picture_of(np.ones(33_600)).shape == (210, 160)
    assert picture_of(np.zeros(4)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("rows", [210, 250])
@pytest.mark.parametrize("size", [GAME_SIZE, (480, 360), (320, 240), (120, 90)])
def test_a_game_is_scaled_as_pillow_scales_it(rows: int, size: tuple[int, int]) -> None:
    """Pillow's box filter averages pixels for a smaller picture and takes the nearest one for a larger picture."""
    frame = np.random.default_rng(rows).integers(0, 256, (rows, 160, 3), dtype=np.uint8)
    by_pillow = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    assert np.array_equal(scale_game(frame, size), by_pillow)
