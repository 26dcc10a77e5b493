"""The floor that benchmarks compare with: operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from floor import operations

from jaxpg.policies import PolicyConfig, make_policy

# multiplications of each layer of the 2015 network: outputs x weights that meet in one
FIRST, SECOND, THIRD = 20 * 20 * 32 * 8 * 8 * 4, 9 * 9 * 64 * 4 * 4 * 32, 7 * 7 * 64 * 3 * 3 * 64
DENSE = 3136 * 512 + 512 * 6 + 512
MLP = 84 * 84 * 4 * 200, 200 * 6 + 200


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("nature", FIRST + SECOND + THIRD + DENSE, FIRST + 2 * (SECOND + THIRD + DENSE)),
        ("mlp", sum(MLP), MLP[0] + 2 * MLP[1]),
    ],
)
def test_operations_of_a_network_and_its_gradient(name: str, forward: int, backward: int) -> None:
    policy = make_policy(PolicyConfig(name=name), (84, 84, 4), 6, value=True)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    picture = jax.ShapeDtypeStruct((84, 84, 4), jnp.float32)
    assert operations(jax.make_jaxpr(policy.apply)(params, picture)) == 2 * forward

    def total(params, x):
        return sum(out.sum() for out in policy.apply(params, x))

    assert operations(jax.make_jaxpr(jax.grad(total))(params, picture)) == 2 * (forward + backward)
