"""The panel beside a game: what it shows of the policy's probabilities, and of what the policy sees."""

import numpy as np
import pytest

from jaxpg.viewing.panel import Moment, Panel, picture_of


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
