"""The floor that benchmarks compare with: operations counted by hand."""

import pytest
from floor import operations_per_agent_step

from jaxpg.config import Config
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import build
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.convolution import Precision
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig

# multiplications of each layer of the 2015 network: outputs x weights that meet in one
FIRST, SECOND, THIRD = 20 * 20 * 32 * 8 * 8 * 4, 9 * 9 * 64 * 4 * 4 * 32, 7 * 7 * 64 * 3 * 3 * 64
DENSE = 3136 * 512 + 512 * 6 + 512
NATURE = FIRST + SECOND + THIRD + DENSE, FIRST + 2 * (SECOND + THIRD + DENSE)  # forward and backward
MLP = 84 * 84 * 4 * 200, 200 * 6 + 200


@pytest.mark.parametrize(
    ("name", "precision", "epochs", "forward", "backward"),
    [
        ("nature", "float32", 1, *NATURE),
        ("nature", "bfloat16", 3, *NATURE),
        ("mlp", "float32", 3, sum(MLP), MLP[0] + 2 * MLP[1]),
    ],
)
def test_operations_of_an_agent_step(name: str, precision: Precision, epochs: int, forward: int, backward: int) -> None:
    config = Config(
        env=EnvConfig(num_lanes=2),
        observation=ObservationConfig(name="stack84"),
        policy=PolicyConfig(name=name, precision=precision),
        reinforce=ReinforceConfig(rollout_agent_steps=8, epochs=epochs),
    )
    experiment = build(config)
    counted = operations_per_agent_step(config, experiment)
    experiment.fleet.close()
    first_pass = 0 if epochs == 1 else forward  # with one, learning could go on from what acting has computed
    assert counted == 2 * (first_pass + epochs * (forward + backward))
