"""Seeds are refused where an emulator would quietly take the clock instead."""

import numpy as np
import pytest

from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import check_seeds


def test_both_ends_of_the_range_are_taken():
    check_seeds(np.array([0, 2**31 - 1]), 2)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([0, -1], "reach from -1 to 0"),
        ([0, 2**31], "reach from 0 to 2147483648"),
        ([0.0, 1.0], r"not float64\[2\]"),
        ([0], r"int\[2\], not int64\[1\]"),
        ([[0, 1]], r"int64\[1, 2\]"),
    ],
)
def test_other_seeds_are_refused(seeds, said):
    with pytest.raises(ValueError, match=said):
        check_seeds(np.array(seeds), 2)


@pytest.mark.parametrize(
    ("backend", "game", "kind"), [("envpool", "Pong", "ram"), ("ale", "Pong", "pixels"), ("probe", "Count", "vector")]
)
def test_every_backend_refuses_a_negative_seed(backend, game, kind):
    needs = EmulatorNeeds(kind=kind, height=84, width=84)
    env = make_env(EnvConfig(game=game, backend=backend, num_threads=1), needs, 1)
    with pytest.raises(ValueError, match="seeds must lie in"):
        env.reset(np.array([-1]))
    env.close()
