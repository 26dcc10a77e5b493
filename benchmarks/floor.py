"""The lowest possible cost of an agent step.

The cost follows from what the policy must compute and read, and from how fast a device computes and reads.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxpg.config import Config
from jaxpg.kernel.pieces import Experiment
from jaxpg.machine.memory_estimate import equations
from jaxpg.policies.networks import make_policy
from jaxpg.policies.observations import encoded_shape

FLOAT_BYTES = 4


def operations_per_agent_step(config: Config, experiment: Experiment) -> float:
    """Additions and multiplications of the policy's products and convolutions.

    The count is one forward pass to act, and one forward and one backward pass in each epoch. If a batch makes only one
    update, the epoch's forward pass does not count, because acting could store it. Everything else counts as overhead,
    including the operations that bfloat16 needs beyond float32.
    """
    spec, observation = experiment.rollout.pools[0].spec, experiment.observation
    picture = jax.eval_shape(observation.decode, encoded_shape(observation, spec))
    plain = replace(config.policy, precision="float32")
    policy = make_policy(plain, picture.shape, spec.num_actions, experiment.policy.has_value)
    params = jax.eval_shape(policy.init, jax.random.key(0))

    def total(params: Any, x: jax.Array) -> jax.Array:
        logits, value = policy.apply(params, x)
        return logits.sum() + value

    acting = operations(jax.make_jaxpr(policy.apply)(params, picture))
    learning = operations(jax.make_jaxpr(jax.grad(total))(params, picture))
    batch = config.reinforce.rollout_agent_steps * config.env.num_lanes
    if config.reinforce.epochs == 1 and config.reinforce.agent_steps_per_update(config.env.num_lanes) == batch:
        return learning
    return acting + config.reinforce.epochs * learning


def bytes_per_agent_step(config: Config, experiment: Experiment, params: Any) -> float:
    """Bytes that must be read for one agent step of one lane.

    Each agent step of all lanes reads the parameters once and the raw observations. Each epoch reads the tape. Each
    update reads the parameters.
    """
    spec = experiment.rollout.pools[0].spec
    weights = sum(x.size for x in jax.tree.leaves(params)) * FLOAT_BYTES
    raw = prod(spec.observation_shape) * spec.observation_dtype.itemsize
    encoded = encoded_shape(experiment.observation, spec)
    reinforce = config.reinforce
    per_update = reinforce.agent_steps_per_update(config.env.num_lanes)
    tape = encoded.size * encoded.dtype.itemsize
    return weights / config.env.num_lanes + raw + reinforce.epochs * (tape + weights / per_update)


def operations(closed: ClosedJaxpr) -> float:
    """Operations of the products and convolutions in a traced function without loops.

    Each multiplication counts as two operations: the multiplication and the addition of its result.
    """
    return sum(_operations(equation) for equation in equations(closed.jaxpr))


def _operations(equation: JaxprEqn) -> float:
    out = prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2.0 * out * prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        # each weight meets each output or, if a gradient spreads a small picture over a large one, each input;
        # the zeros between and around the pixels do not count
        numbers = equation.params["dimension_numbers"]
        picture, kernel = (variable.aval.shape for variable in equation.invars)
        outputs = prod(equation.outvars[0].aval.shape[axis] for axis in numbers.out_spec[2:])
        inputs = prod(picture[axis] for axis in numbers.lhs_spec[2:])
        return 2.0 * picture[numbers.lhs_spec[0]] * prod(kernel) * min(outputs, inputs)
    return 0.0


def matmul_rate(size: int = 2048) -> Callable[[float], float]:
    """Function that measures operations per second in products of square f32 matrices."""
    matrix = jnp.full((size, size), 0.5)
    product = jax.jit(lambda a, b: a @ b)
    return _rate(lambda: product(matrix, matrix), 2.0 * size**3)


def read_rate(megabytes: int = 256) -> Callable[[float], float]:
    """Function that measures the bytes per second that the sum of a long f32 vector reads."""
    vector = jnp.ones(megabytes * 1_000_000 // FLOAT_BYTES)
    total = jax.jit(jnp.sum)
    return _rate(lambda: total(vector), float(vector.nbytes))


def _rate(work: Callable[[], jax.Array], amount: float) -> Callable[[float], float]:
    work().block_until_ready()

    def measure(seconds: float) -> float:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            work().block_until_ready()
            count += 1
        return count * amount / (time.perf_counter() - start)

    return measure
