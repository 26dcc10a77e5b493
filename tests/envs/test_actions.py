"""Actions are refused before an emulator sees them."""

import numpy as np
import pytest

from jaxpg.envs.actions import ActionTable
from jaxpg.errors import UserError


def test_a_subset_is_translated_in_its_own_order() -> None:
    table = ActionTable(6, (3, 2), num_lanes=3)
    assert len(table) == 2
    assert table.translate(np.array([0, 1, 0])).tolist() == [3, 2, 3]
    assert table.translate(np.array([1, 1, 1])).dtype == np.int32


def test_without_a_subset_every_action_is_itself() -> None:
    assert ActionTable(4, (), num_lanes=4).translate(np.arange(4)).tolist() == [0, 1, 2, 3]


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
        ActionTable(6, (2, 3), num_lanes=2).translate(actions)


@pytest.mark.parametrize(("subset", "says"), [((6,), "no action"), ((-1,), "no action"), ((2, 2), "twice")])
def test_a_wrong_subset_is_the_users_error(subset: tuple[int, ...], says: str) -> None:
    with pytest.raises(UserError, match=f"env.actions: .*{says}"):
        ActionTable(6, subset, num_lanes=1)
