"""Statistics of observations: the share of inputs at the clip, against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.core.types import EmulatorNeeds, Episodes, Experience, Tape
from jaxpg.learners.observation_statistics import SAMPLED_ROWS, input_clip_fraction
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import MOST_DEVIATIONS
from jaxpg.policies.observations import Observation

LANES, FEATURES = 3, 5
BYTES = Observation(EmulatorNeeds(kind="vector"), encode=lambda x: x, decode=lambda x: x)
MEAN = np.linspace(0.2, 0.6, FEATURES, dtype=np.float32)
STD = np.array([0.01, 0.02, 0.04, 0.08, 1.0], np.float32)
PARAMS = {"policy": {}, "mean": jnp.asarray(MEAN), "std": jnp.asarray(STD)}


def _experience(encoded: np.ndarray, acted: np.ndarray) -> Experience:
    """An experience of which only the tape's observations and ``acted`` matter."""
    unused = np.zeros(acted.shape, np.float32)
    tape = Tape(jnp.asarray(encoded), jnp.zeros(encoded.shape[:2], jnp.int32), jnp.zeros(()), jnp.zeros(()))
    episodes = Episodes(*(np.zeros(0) for _ in Episodes._fields))
    return Experience(tape, unused, unused > 0, unused > 0, unused > 0, acted, episodes)


@pytest.mark.parametrize(("steps", "rows"), [(1, [0]), (SAMPLED_ROWS, range(8)), (22, range(0, 22, 3))])
def test_the_share_of_inputs_at_the_clip_is_that_of_the_sampled_rows(steps: int, rows: list[int]) -> None:
    rng = np.random.default_rng(steps)
    encoded = rng.integers(256, size=(steps + 1, LANES, FEATURES), dtype=np.uint8)
    acted = rng.random((steps, LANES)) < 0.7
    acted[0] = [True, True, False]
    inputs = (encoded[list(rows)].astype(np.float32) / 255 - MEAN) / STD
    at_clip = np.abs(inputs[acted[list(rows)]]) >= MOST_DEVIATIONS
    share = float(input_clip_fraction(PARAMS, BYTES, [_experience(encoded, acted)], Team.alone()))
    assert 0 < share < 1
    assert share == pytest.approx(at_clip.mean(), rel=1e-6)


def test_where_nobody_acts_no_input_lies_at_the_clip() -> None:
    experience = _experience(np.full((4, LANES, FEATURES), 255, np.uint8), np.zeros((3, LANES), bool))
    assert input_clip_fraction(PARAMS, BYTES, [experience], Team.alone()) == 0


def test_a_round_that_ended_early_counts_the_steps_that_were_played() -> None:
    """The tape has its full length, the outcomes only the agent steps that were played."""
    encoded = np.full((9, LANES, FEATURES), 255, np.uint8)
    share = input_clip_fraction(PARAMS, BYTES, [_experience(encoded, np.ones((2, LANES), bool))], Team.alone())
    assert share == pytest.approx((np.abs((1 - MEAN) / STD) >= MOST_DEVIATIONS).mean())
