"""Actions are refused before an emulator sees them."""

import numpy as np
import pytest

from jaxpg.core.errors import UserError
from jaxpg.envs.actions import ActionTable, numbered


def test_a_subset_is_translated_in_its_own_order() -> None:
    table = ActionTable(numbered(6), (3, 2), num_lanes=3)
    assert len(table) == 2
    assert table.translate(np.array([0, 1, 0])).tolist() == [3, 2, 3]
    assert table.translate(np.array([1, 1, 1])).dtype == np.int32


def test_without_a_subset_every_action_is_itself() -> None:
    assert ActionTable(numbered(4), (), num_lanes=4).translate(np.arange(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "actions",
    [
        np.array([0, -1]),
        np.array([0, 2]),
        np.array([0, 10**9]),
        np.array([0.0, 1.0]),
        np.array([True, False]),
        np.array([0, 1, 1]),
        np.array([[0, 1]]),
    ],
    ids=["negative", "one too large", "huge", "floats", "booleans", "too many", "two axes"],
)
def test_anything_else_is_refused(actions: np.ndarray) -> None:
    with pytest.raises(ValueError, match="actions must"):
        ActionTable(numbered(6), (2, 3), num_lanes=2).translate(actions)


NAMES = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")


@pytest.mark.parametrize("subset", [(3, 2), ("LEFT", "RIGHT"), ("LEFT", 2)])
def test_an_action_is_chosen_by_name_or_number(subset: tuple[int | str, ...]) -> None:
    table = ActionTable(NAMES, subset, num_lanes=2)
    assert table.translate(np.array([0, 1])).tolist() == [3, 2]
    assert table.names == ("LEFT", "RIGHT")
    assert ActionTable(NAMES, (), num_lanes=2).names == NAMES


@pytest.mark.parametrize(
    ("subset", "says"),
    [
        ((6,), "6 is not an action of this game; its actions are 0 to 5: NOOP, FIRE, "),
        ((-1,), "-1 is not an action"),
        (("UP",), "UP is not an action of this game; its actions are 0 to 5: NOOP, FIRE, RIGHT, "),
        ((2, 2), "twice"),
        ((2, "RIGHT"), "twice"),
    ],
)
def test_a_wrong_subset_is_the_users_error(subset: tuple[int | str, ...], says: str) -> None:
    with pytest.raises(UserError, match=f"env.actions: .*{says}"):
        ActionTable(NAMES, subset, num_lanes=1)
