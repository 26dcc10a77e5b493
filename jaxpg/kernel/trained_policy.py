"""A trained policy as a function of observations."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.errors import UserError, first_line
from jaxpg.core.types import Params, ValueScale
from jaxpg.kernel.pieces import Experiment
from jaxpg.policies.networks import on_tape


class Decision(NamedTuple):
    """What a policy does with one observation, or with each of a batch of B."""

    action: jax.Array
    """``i32[]`` or ``i32[B]``, an index into ``TrainedPolicy.action_names``."""
    probabilities: jax.Array
    """``f32[A]`` or ``f32[B, A]``, the probability of each action."""
    value: jax.Array
    """``f32[]`` or ``f32[B]``, the value head's estimate of the return-to-go, as the learner sees rewards; 0 where the
    policy has no value head."""


class TrainedPolicy:
    """The policy of one checkpoint, as a function of observations.

    Args:
      experiment: the parts of the run.
      params: the weights.
      checkpoint: the iteration at which they were saved.
      value_scale: turns the outputs of the value head into returns-to-go.
    """

    def __init__(self, experiment: Experiment, params: Params, checkpoint: int, value_scale: ValueScale):
        spec = experiment.rollout.pools[0].spec
        self.checkpoint = checkpoint
        """The iteration at which the weights were saved."""
        self.params = params
        """The weights."""
        self.observation_shape: tuple[int, ...] = spec.observation_shape
        """Shape of one observation as the environment gives it, frames of a stack first."""
        self.observation_dtype = spec.observation_dtype
        """Type of an observation's numbers."""
        self.action_names: tuple[str, ...] = spec.action_names
        """Name of each action, such as ``UP``. Its number if the emulator has no names."""
        self.task = experiment.task
        """What the policy's inputs and actions mean."""
        self.is_greedy = experiment.rollout.greedy
        """Whether the policy took the most probable actions in training, as searches and evolution do."""
        apply, observation, axes = on_tape(experiment.policy, experiment.observation), experiment.observation, spec.axes

        @jax.jit
        def decide(params: Params, raw: jax.Array, key: jax.Array | None) -> Decision:
            encoded = jax.vmap(lambda x: observation.encode(jnp.transpose(x, axes)))(raw)
            logits, value = apply(params, encoded)
            action = jnp.argmax(logits, axis=-1) if key is None else jax.random.categorical(key, logits)
            return Decision(action.astype(jnp.int32), jax.nn.softmax(logits), value_scale.returns_of(value))

        self._decide = decide

    def of_batch(self, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Chooses the most probable actions, as a pure function that JAX can trace: the weights are constants.

        Args:
          raw: observations as the environment gives them, ``[B, *observation_shape]``.

        Returns:
          The actions, ``i32[B]``, and the probabilities of all actions, ``f32[B, A]``.
        """
        decision = self._decide(self.params, raw, None)
        return decision.action, decision.probabilities

    def __call__(self, observation: Any, key: jax.Array | None = None) -> Decision:
        """Chooses an action for one observation, or for each observation of a batch.

        Args:
          observation: as the environment gives it; its shape is ``observation_shape``, or that shape behind a batch
            axis.
          key: samples the actions from their probabilities; None chooses the most probable actions.

        Raises:
          UserError: the observation has another shape, or numbers that the environment cannot give.
        """
        raw = self._raw(observation)
        if raw.shape == self.observation_shape:
            return jax.tree.map(lambda x: x[0], self._decide(self.params, raw[None], key))
        if raw.shape[1:] != self.observation_shape:
            shape = list(self.observation_shape)
            raise UserError(f"observation: shape {list(raw.shape)} is neither {shape} nor a batch of these")
        return self._decide(self.params, raw, key)

    def _raw(self, observation: Any) -> np.ndarray:
        """The observation in the environment's own type of number. Raises UserError if that changes its numbers."""
        dtype = self.observation_dtype
        try:
            given = np.asarray(observation)
            with np.errstate(invalid="ignore"):
                raw = given.astype(dtype)
        except (TypeError, ValueError) as error:
            raise UserError(f"observation: no array of numbers: {first_line(error)}") from error
        if not raw.size:
            raise UserError(f"observation: shape {list(raw.shape)} holds no observation")
        if dtype.kind == "f" and not np.isfinite(raw).all():
            raise UserError("observation: it has numbers that are infinite or NaN")
        if dtype.kind != "f" and (raw != given).any():
            raise UserError(f"observation: its numbers must be those of the environment, of type {dtype}; do not scale")
        return raw
