"""Checks and translates actions. The emulators do not check actions: a wrong action crashes or hangs them."""

from collections.abc import Sequence

import numpy as np

from jaxpg.core.errors import UserError


class ActionTable:
    """Maps policy actions ``0 .. A-1`` to emulator actions, optionally through a subset.

    Args:
      emulator_actions: the names of the emulator's actions.
      subset: the actions that the policy may choose, by name or number, in the policy's order. Empty means all.
      num_lanes: N, the length of every action array.

    Raises:
      UserError: the subset names an action twice, or an action that the emulator does not have.
    """

    def __init__(self, emulator_actions: Sequence[str], subset: Sequence[int | str], num_lanes: int):
        numbers = [_number(action, emulator_actions) for action in subset]
        if len(set(numbers)) < len(numbers):
            raise UserError(f"env.actions: {list(subset)} names an action twice")
        self.table = np.array(numbers or range(len(emulator_actions)), dtype=np.int32)
        self.names = tuple(emulator_actions[number] for number in self.table)
        """Name of each policy action."""
        self._num_lanes = num_lanes

    def __len__(self) -> int:
        return len(self.table)

    def translate(self, actions: np.ndarray) -> np.ndarray:
        """Translates policy actions ``int[N]`` into emulator actions ``int32[N]``.

        Raises:
          ValueError: the actions have another shape or dtype, or an action is not in ``[0, A)``.
        """
        if actions.shape != (self._num_lanes,) or actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be int[{self._num_lanes}], not {actions.dtype}{list(actions.shape)}")
        if actions.min() < 0 or actions.max() >= len(self.table):
            raise ValueError(
                f"actions must lie in 0 .. {len(self.table) - 1}, but reach from {actions.min()} to {actions.max()}"
            )
        translated: np.ndarray = self.table[actions]
        return translated


def numbered(num_actions: int) -> tuple[str, ...]:
    """Numbers as names, for actions that have no names.

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
    raise UserError(f"env.actions: {action} is not an action of this game; its actions are 0 to {last}{names}")
