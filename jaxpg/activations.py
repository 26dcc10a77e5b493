"""A policy's forward pass that is differentiated later: acting keeps what the gradient needs of it.

Where each agent step is used once, with the weights that acted, learning would compute the same pass again: a quarter
of a network's products.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from jaxpg.observations import Observation
from jaxpg.types import Outputs, Params, PolicyFunctions

JITS = {"jit", "pjit"}
"""Names that ``jax.jit`` has in traced functions, now and in older versions."""


class Activations(NamedTuple):
    """The two halves of a gradient, for n observations as the tape keeps them."""

    forward: Callable[[Params, jax.Array], tuple[Outputs, tuple[jax.Array, ...]]]
    """``(params, [n, ...]) -> ((logits f32[n, A], value f32[n]), kept)``; the leaves of ``kept`` are led by n."""
    backward: Callable[[Params, jax.Array, tuple[jax.Array, ...], Outputs], Params]
    """``(params, [n, ...], kept, (d_logits, d_value)) -> gradient``, with the same params; the observations may be
    those of several passes, one after another."""
    num_bytes: int
    """Kept of one observation."""


def on_tape(policy: PolicyFunctions, observation: Observation) -> Callable[[Params, jax.Array], Outputs]:
    """The policy on n observations of a tape: ``(params, [n, ...]) -> (logits f32[n, A], value f32[n])``."""
    return lambda params, seen: policy.apply(params, jax.vmap(observation.decode)(seen))


def make_activations(
    policy: PolicyFunctions, observation: Observation, encoded: jax.ShapeDtypeStruct, params: Params
) -> Activations:
    """Splits the gradient of a policy.

    What a gradient needs of the forward pass is what JAX says it is. Kept of that is what depends on the observation
    and on the weights; the rest is made again, which costs little: the policy's inputs, and the weights themselves.

    Args:
      policy: its pure functions.
      observation: decodes what the tape keeps.
      encoded: shape of one observation on the tape.
      params: shapes of the weights.
    """
    apply_all = on_tape(policy, observation)

    @jax.jit  # always traced, so that the leaves of a pullback always come in the same order
    def differentiated(params: Params, seen: jax.Array) -> tuple[Outputs, Callable[[Outputs], tuple[Params]]]:
        return jax.vjp(lambda params: apply_all(params, seen), params)

    def leaves_of(params: Params, seen: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(differentiated(params, seen)[1])

    def several(number: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((number, *encoded.shape), encoded.dtype)

    two, three = (jax.eval_shape(leaves_of, params, several(number)) for number in (2, 3))
    of_weights = [True] * len(jax.tree.leaves(params))
    computed = _dependent(jax.make_jaxpr(leaves_of)(params, several(2)).jaxpr, [*of_weights, False])
    axes = [
        _axis_that_grew(a.shape, b.shape) if of_params else None
        for a, b, of_params in zip(two, three, computed, strict=True)
    ]

    def forward(params: Params, seen: jax.Array) -> tuple[Outputs, tuple[jax.Array, ...]]:
        outputs, pullback = differentiated(params, seen)
        leaves = zip(jax.tree.leaves(pullback), axes, strict=True)
        kept = (jnp.moveaxis(x, axis, 0) for x, axis in leaves if axis is not None)
        return outputs, tuple(kept)

    def backward(params: Params, seen: jax.Array, kept: tuple[jax.Array, ...], cotangents: Outputs) -> Params:
        _, pullback = differentiated(params, seen)  # of which the compiler leaves out what is kept
        leaves, structure = jax.tree.flatten(pullback)
        given = iter(kept)
        leaves = [
            x if axis is None else jnp.moveaxis(next(given), 0, axis) for x, axis in zip(leaves, axes, strict=True)
        ]
        return jax.tree.unflatten(structure, leaves)(cotangents)[0]

    of_two = (x.size * x.dtype.itemsize for x, axis in zip(two, axes, strict=True) if axis is not None)
    return Activations(forward, backward, sum(of_two) // 2)


def _axis_that_grew(two: Sequence[int], three: Sequence[int]) -> int | None:
    """The axis of the observations, seen in the shapes with two and with three of them; None where there is none."""
    grown = np.flatnonzero(np.array(two) != np.array(three))
    if len(grown) != 1 or (two[grown[0]], three[grown[0]]) != (2, 3):
        return None
    return int(grown[0])


def _dependent(jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
    """Which outputs of a traced function depend on those inputs that are marked."""
    dependent = {variable for variable, marked in zip(jaxpr.invars, inputs, strict=True) if marked}

    def depends(variable: Any) -> bool:
        return not isinstance(variable, Literal) and variable in dependent

    for equation in jaxpr.eqns:
        marked = [depends(variable) for variable in equation.invars]
        if equation.primitive.name in JITS:
            outputs = _dependent(equation.params["jaxpr"].jaxpr, marked)
        else:
            outputs = [any(marked)] * len(equation.outvars)
        dependent.update(variable for variable, of_them in zip(equation.outvars, outputs, strict=True) if of_them)
    return [depends(variable) for variable in jaxpr.outvars]
