"""Makes and checks the emulators' seeds. ALE would ignore a negative seed and use the clock instead."""

import numpy as np


def check_seeds(seeds: np.ndarray, num_lanes: int) -> None:
    """Raises ValueError unless ``seeds`` is ``int[N]`` in ``[0, 2**31)``."""
    if seeds.shape != (num_lanes,) or seeds.dtype.kind not in "iu":
        raise ValueError(f"seeds must be int[{num_lanes}], not {seeds.dtype}{list(seeds.shape)}")
    if seeds.min() < 0 or seeds.max() >= 2**31:
        raise ValueError(f"seeds must lie in 0 .. 2**31 - 1, but reach from {seeds.min()} to {seeds.max()}")


def lane_seeds(seed: int, segment: int, num_lanes: int) -> np.ndarray:
    """Seeds of all lanes, ``int64[N]``. They depend only on the run's seed, the segment and the lane."""
    return np.array(
        [np.random.SeedSequence((seed, segment, lane)).generate_state(1)[0] >> 1 for lane in range(num_lanes)], np.int64
    )
