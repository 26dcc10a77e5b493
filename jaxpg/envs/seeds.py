"""Seeds are checked here because ALE takes a negative one for none at all and seeds by the clock."""

import numpy as np


def check_seeds(seeds: np.ndarray, num_lanes: int) -> None:
    """Raises ValueError unless ``seeds`` is ``int[N]`` in ``[0, 2**31)``."""
    if seeds.shape != (num_lanes,) or seeds.dtype.kind not in "iu":
        raise ValueError(f"seeds must be int[{num_lanes}], not {seeds.dtype}{list(seeds.shape)}")
    if seeds.min() < 0 or seeds.max() >= 2**31:
        raise ValueError(f"seeds must lie in 0 .. 2**31 - 1, but reach from {seeds.min()} to {seeds.max()}")


def lane_seeds(seed: int, segment: int, num_lanes: int) -> np.ndarray:
    """The emulators' seeds, ``int64[N]``: a function of the run's seed, the segment and the lane alone."""
    return np.array(
        [np.random.SeedSequence((seed, segment, lane)).generate_state(1)[0] >> 1 for lane in range(num_lanes)], np.int64
    )
