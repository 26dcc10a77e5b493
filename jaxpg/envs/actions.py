"""Actions are checked here because the emulators do not: a wrong one crashes or hangs them."""

from collections.abc import Sequence

import numpy as np

from jaxpg.core.errors import UserError


class ActionTable:
    """Maps a policy's actions ``0 .. A-1`` to an emulator's, through an optional subset.

    Args:
      emulator_actions: the names of the emulator's actions.
      subset: those that the policy may choose, by name or number, in the policy's order; empty for all.
      num_lanes: N, the length of every action array.

    Raises:
      UserError: the subset names an action twice or one that the emulator does not have.
    """

    def __init__(self, emulator_actions: Sequence[str], subset: Sequence[int | str], num_lanes: int):
        numbers = [_number(action, emulator_actions) for action in subset]
        if len(set(numbers)) < len(numbers):
            raise UserError(f"env.actions: {list(subset)} names an action twice")
        self.table = np.array(numbers or range(len(emulator_actions)), dtype=np.int32)
        self.names = tuple(emulator_actions[number] for number in self.table)
        """Of the policy's actions."""
        self._num_lanes = num_lanes

    def __len__(self) -> int:
        return len(self.table)

    def translate(self, actions: np.ndarray) -> np.ndarray:
        """``int[N]`` of the policy -> ``int32[N]`` of the emulator; ValueError for anything else."""
        if actions.shape != (self._num_lanes,) or actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be int[{self._num_lanes}], not {actions.dtype}{list(actions.shape)}")
        if actions.min() < 0 or actions.max() >= len(self.table):
            raise ValueError(
                f"actions must lie in 0 .. {len(self.table) - 1}, but reach from {actions.min()} to {actions.max()}"
            )
        translated: np.ndarray = self.table[actions]
        return translated


def numbered(num_actions: int) -> tuple[str, ...]:
    """Names of actions that have none.

    >>> numbered(3)
    ('0', '1', '2')
    """
    return tuple(map(str, range(num_actions)))


def _number(action: int | str, emulator_actions: Sequence[str]) -> int:
    last = len(emulator_actions) - 1
    have_names = list(emulator_actions) != list(numbered(len(emulator_actions)))
    names = f": {', '.join(emulator_actions)}" if have_names else ""
    if isinstance(action, str) and action in emulator_actions:
        return emulator_actions.index(action)
    if isinstance(action, int) and 0 <= action <= last:
        return action
    raise UserError(f"env.actions: {action} is no action of this game, which has 0 to {last}{names}")
