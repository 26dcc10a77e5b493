"""Whole iterations as one program: P members play a rollout of environments in JAX, and each learns from its own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.errors import FaultError
from jaxpg.core.types import MEMBERS, Answers, Experience, InJax, Lanes, Tape
from jaxpg.kernel.act import gumbel_noise
from jaxpg.kernel.jax_rollout import NOT_FINITE, Act, all_finite, play_lanes
from jaxpg.kernel.rollout import Rollout
from jaxpg.learners.base import Learner, Metrics


class Iterated(NamedTuple):
    """What one iteration of P members in N lanes leaves."""

    state: Any  # P learners' states; every leaf has the leading axis P
    lanes: Lanes
    answers: Answers  # [T, N] each
    metrics: Metrics  # [P] each
    finite: jax.Array  # bool[], whether all rewards and observations are finite


def make_iteration(
    act: Act, pool: InJax, learner: Learner, encoded: jax.ShapeDtypeStruct, num_agent_steps: int
) -> Callable[[Any, Lanes, jax.Array, Metrics], Iterated]:
    """Builds ``iterate(state, lanes, keys, scheduled) -> Iterated``, a pure function of P members.

    The members play and learn as if each were alone: member m has the lanes ``m E`` to ``(m + 1) E - 1``, its own
    randomness, and its own state. The arguments of ``iterate``:

    - ``state``: P learners' states; every leaf has the leading axis P.
    - ``lanes``: the N = P E lanes.
    - ``keys``: typed keys ``[P]``, the randomness of each member's actions.
    - ``scheduled``: what ``Learner.scheduled`` returns, ``f32[P]`` each.

    Args:
      act: from ``make_act``, for N lanes.
      pool: steps the lanes.
      learner: one member, which learns from E lanes; it has ``learn``.
      encoded: shape and dtype of one encoded observation.
      num_agent_steps: T.
    """
    num_actions, num_lanes = pool.spec.num_actions, pool.num_lanes
    shape = (num_agent_steps + 1, num_lanes)
    learn = learner.learn
    assert learn is not None, "the learner must have a pure function"

    def iterate(state: Any, lanes: Lanes, keys: jax.Array, scheduled: Metrics) -> Iterated:
        members = len(keys)
        own_noise = partial(gumbel_noise, num_rows=shape[0], num_lanes=num_lanes // members, num_actions=num_actions)
        noise = jnp.moveaxis(jax.vmap(own_noise)(keys), 0, 1).reshape(*shape, num_actions)
        tape = Tape(
            observation=jnp.zeros((*shape, *encoded.shape), encoded.dtype),
            action=jnp.zeros(shape, jnp.int32),
            logits=jnp.zeros((*shape, num_actions)),
            value=jnp.zeros(shape),
        )
        table = jnp.asarray(pool.actions)
        tape, lanes, answers = play_lanes(act, pool.advance, table, state.params, noise, tape, lanes)
        _, whole = act(state.params, lanes.observation, noise, tape, num_agent_steps, 0)
        assert whole is not None, "there is a tape"
        by_member = partial(jax.tree.map, lambda x: x.reshape(len(x), members, -1, *x.shape[2:]))
        learned, metrics = _by_members(learn)(state, by_member(whole), by_member(answers), scheduled)
        return Iterated(learned, lanes, answers, metrics, all_finite((whole.observation, answers.reward)))

    return iterate


def _by_members(learn: Callable[..., tuple[Any, Metrics]]) -> Callable[..., tuple[Any, Metrics]]:
    """Maps ``learn`` over the axis of the members: the first one of states, and the second one of what was played.

    A single member is not mapped, because on CPU a product without that axis is faster. Its convolutions are an
    exception: in the axis ``MEMBERS`` they are products, and XLA's own gradient is slow inside the loop of updates.
    """
    axes = (0, 1, 1, 0)
    mapped = jax.vmap(learn, in_axes=axes, axis_name=MEMBERS)

    def learn_all(*arguments: Any) -> tuple[Any, Metrics]:
        if len(jax.tree.leaves(arguments[0])[0]) > 1:
            return mapped(*arguments)
        one = [jax.tree.map(partial(jnp.squeeze, axis=axis), x) for axis, x in zip(axes, arguments, strict=True)]
        if jax.default_backend() == "cpu" and "conv_general_dilated" in str(jax.make_jaxpr(learn)(*one)):
            return mapped(*arguments)
        return jax.tree.map(lambda x: x[None], learn(*one))

    return learn_all


class WholeIterations:
    """Trains one member in all lanes of a rollout, or a population, an iteration a call, each as one program.

    The state is not donated: where the environment fails, the state before the iteration is saved.

    Args:
      rollout: plays a single pool of an environment in JAX.
      learner: has ``learn``.
      num_agent_steps: T.
      members: ``Learner.scheduled`` of each member of a population; empty for one member, whose state has no axis P.
    """

    def __init__(
        self,
        rollout: Rollout,
        learner: Learner,
        num_agent_steps: int,
        members: Sequence[Callable[[float], Metrics]] = (),
    ):
        (pool,) = rollout.pools
        assert isinstance(pool, InJax)
        self._rollout, self._pool = rollout, pool
        self._members, self._alone = members, learner.scheduled
        iterate = make_iteration(rollout.act, pool, learner, rollout.encoded, num_agent_steps)

        @jax.jit
        def iterate_one(state: Any, lanes: Lanes, key: jax.Array, scheduled: Metrics) -> Iterated:
            led_by_one = partial(jax.tree.map, lambda x: jnp.asarray(x)[None])
            iterated = iterate(led_by_one(state), lanes, key[None], led_by_one(scheduled))
            alone = partial(jax.tree.map, lambda x: x[0])
            return iterated._replace(state=alone(iterated.state), metrics=alone(iterated.metrics))

        self._iterate = jax.jit(iterate) if members else iterate_one

    def __call__(self, state: Any, key: jax.Array, progress: float) -> tuple[Any, Experience, Metrics]:
        """Plays T agent steps and learns from them.

        Args:
          state: the learner's state; in a population every leaf has the leading axis P.
          key: the actions' randomness; in a population one key for each member.
          progress: the share of the schedules that is over.

        Returns:
          The new state, the experience without a tape, and the metrics on the host, in a population ``[P]`` each.

        Raises:
          FaultError: the environment gave a number that is infinite or NaN. The lanes stay where they were.
        """
        scheduled = self._scheduled(progress)
        with jax.default_device(self._rollout.device):
            iterated = self._iterate(state, self._pool.lanes, key, scheduled)
            with self._rollout.waiting():
                answers, metrics, finite = jax.device_get((iterated.answers, iterated.metrics, iterated.finite))
        if not finite:
            raise FaultError(NOT_FINITE)
        self._pool.lanes = iterated.lanes
        return iterated.state, self._rollout.counted(answers), metrics

    def _scheduled(self, progress: float) -> Metrics:
        """What ``iterate`` takes: a number for each setting, or in a population one for each member."""
        each = [scheduled(progress) for scheduled in self._members]
        if not each:
            return {name: np.float32(value) for name, value in self._alone(progress).items()}
        return {name: np.array([own[name] for own in each], np.float32) for name in each[0]}
