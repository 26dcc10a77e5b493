"""Actions are checked here because the emulators do not: a wrong one crashes or hangs them."""

import numpy as np

from jaxpg.errors import UserError


class ActionTable:
    """Maps a policy's actions ``0 .. A-1`` to an emulator's, through an optional subset.

    Args:
      num_emulator_actions: how many actions the emulator has.
      subset: the emulator's actions that the policy may choose, in the policy's order; empty for all.
      num_lanes: N, the length of every action array.

    Raises:
      UserError: the subset names an action twice or one that the emulator does not have.
    """

    def __init__(self, num_emulator_actions: int, subset: tuple[int, ...], num_lanes: int):
        for action in subset:
            if not 0 <= action < num_emulator_actions:
                raise UserError(
                    f"env.actions: {action} is no action of this game, which has 0 to {num_emulator_actions - 1}"
                )
        if len(set(subset)) < len(subset):
            raise UserError(f"env.actions: {list(subset)} names an action twice")
        self.table = np.array(subset or range(num_emulator_actions), dtype=np.int32)
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
