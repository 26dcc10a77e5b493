"""REINFORCE (Williams 1992): a population of one, which explores by sampling its actions.

One iteration collects a rollout, then calls ``targets.make_targets``, ``objective.objective`` and
``update.apply_gradient``, in that order.

With ``epochs: 1`` every agent step is used once, without clipping and without replay, and one update per batch is the
plain score-function estimator. Where a batch makes several updates, each agent step is weighted by the ratio of the
new policy to the policy that acted, which keeps the estimator unbiased. With more epochs that ratio is clipped.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpg.core.errors import UserError
from jaxpg.core.types import Episodes, Experience, Params, PolicyFunctions, Population, ValueScale
from jaxpg.learners.base import Ingredients, Learner, LearnerKind, Metrics, Sizes
from jaxpg.learners.learn_program import SWEPT, make_learn
from jaxpg.learners.minibatches import minibatches, rows_per_chunk, rows_per_update, with_fitting_minibatch
from jaxpg.learners.objective import objective, policy_loss_for
from jaxpg.learners.observation_statistics import add_seen, input_clip_fraction, moments
from jaxpg.learners.optimizers import learning_rate_at, make_optimizer
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.learners.returns import credit, lambda_returns, transformed
from jaxpg.learners.statistics import Statistics, no_statistics
from jaxpg.learners.targets import Targets, Transitions, make_targets, transitions_of, value_scale
from jaxpg.learners.update import (
    Gradient,
    Objective,
    add_up,
    apply_gradient,
    gradient_of_rows,
    sum_over_devices,
    weight_of_rows,
)
from jaxpg.machine.memory_estimate import Part
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import on_tape
from jaxpg.policies.observations import Observation


class ReinforceState(NamedTuple):
    """Everything that learning needs to continue."""

    params: Params
    optimizer: optax.OptState
    returns: Statistics  # of the returns-to-go of earlier batches
    statistics: Statistics  # of observations; scalars where unused
    key: jax.Array  # typed PRNG key of the shuffles


def make_reinforce(
    config: ReinforceConfig,
    policy: PolicyFunctions,
    observation: Observation,
    optimizer: optax.GradientTransformation,
    *,
    num_lanes: int,
    learning_rate: Callable[[float], float],
    team: Team,
    input_shape: tuple[int, ...] = (),
) -> Learner:
    """Builds the learner.

    With ``normalize_observations`` the params are those of ``policies.networks.with_normalizer``.

    Args:
      config: the settings of REINFORCE.
      policy: the policy's pure functions; it has a value head exactly when the baseline is ``value``.
      observation: decodes the tape.
      optimizer: any Optax chain; its update gets the learning rate as an argument where it accepts one.
      num_lanes: N, the lanes of all devices together.
      learning_rate: ``share of the schedule that is over -> learning rate``.
      team: the devices; each one computes the gradient of its own lanes.
      input_shape: shape of one policy input; needed only where inputs are standardised.

    Raises:
      UserError: settings contradict each other.
    """
    _check(config)
    learner = _Reinforce(config, policy, observation, optimizer, num_lanes, learning_rate, team, input_shape)
    return Learner(
        init=learner.init,
        ask=learner.ask,
        tell=learner.tell,
        keeps_tape=True,
        learn=learner.learn,
        scheduled=learner.scheduled,
        value_scale=learner.value_scale,
    )


def _check(config: ReinforceConfig) -> None:
    if config.weighting == "total_minus_step" and config.baseline == "value":
        raise UserError(
            "reinforce.weighting: total_minus_step is no return that a value could estimate; "
            "use reinforce.baseline none, batch or ema"
        )
    if config.normalize_value and config.baseline != "value":
        raise UserError(f"reinforce.normalize_value: needs reinforce.baseline value, not {config.baseline!r}")


class _Reinforce:
    """The learner's functions, jitted for one configuration. The arguments are those of ``make_reinforce``."""

    def __init__(
        self,
        config: ReinforceConfig,
        policy: PolicyFunctions,
        observation: Observation,
        optimizer: optax.GradientTransformation,
        num_lanes: int,
        learning_rate: Callable[[float], float],
        team: Team,
        input_shape: tuple[int, ...],
    ):
        self._config, self._observation, self._team = config, observation, team
        self._optimizer, self._learning_rate = optimizer, learning_rate
        self._input_shape = input_shape if config.normalize_observations else ()
        self._update_rows = rows_per_update(config, num_lanes)
        self._chunk_rows = rows_per_chunk(config, num_lanes // team.num_devices, self._update_rows)
        updates = config.epochs * config.rollout_agent_steps // self._update_rows

        def loss_of(settings: ReinforceConfig) -> Objective:
            return partial(objective, settings, policy_loss_for(settings, updates))

        self._ask = jax.jit(partial(jax.tree.map, lambda x: x[None]))
        self._split = jax.jit(lambda key: tuple(jax.random.split(key)))
        self._make_targets = jax.jit(partial(_targets_everywhere, config, team), out_shardings=team.everywhere)
        self._weight_of_rows = jax.jit(weight_of_rows)
        gradient_of = partial(gradient_of_rows, on_tape(policy, observation), loss_of(config))
        with_rate = optax.with_extra_args_support(optimizer)
        self.learn = make_learn(
            config, on_tape(policy, observation), observation, loss_of, with_rate, self._update_rows
        )
        self._add_gradient = jax.jit(
            lambda sums, *batch: add_up(sums, gradient_of(*batch)),
            donate_argnums=0,
        )
        self._apply_gradient = jax.jit(
            partial(apply_gradient, with_rate, 1 / updates),
            donate_argnames=("params", "optimizer_state"),
        )
        self._sum = jax.jit(lambda shares: jax.tree.map(lambda *x: reduce(jnp.add, x), *shares))
        self._weight_norm = jax.jit(
            lambda params: optax.tree.norm(params["policy"] if config.normalize_observations else params)
        )

    def init(self, key: jax.Array, params: Params) -> ReinforceState:
        return ReinforceState(
            params=params,
            optimizer=self._optimizer.init(params),
            returns=no_statistics(),
            statistics=no_statistics(self._input_shape),
            key=key,
        )

    def ask(self, state: ReinforceState, ids: jax.Array) -> Population:
        del ids  # there is one candidate
        return self._ask(state.params)

    def tell(
        self, state: ReinforceState, experiences: Sequence[Experience], episodes: Episodes, progress: float
    ) -> tuple[ReinforceState, Metrics]:
        del episodes  # the experiences hold the rewards of every agent step
        params, optimizer_state, statistics = state.params, state.optimizer, state.statistics
        at_clip: Metrics = {}
        if self._config.normalize_observations:  # before the updates, which consume the params and their mean
            at_clip = {"input_clip_fraction": input_clip_fraction(params, self._observation, experiences, self._team)}
            statistics = add_seen(statistics, self._observation, experiences, self._team)
        scheduled = self.scheduled(progress)
        rate, bonus = (np.asarray(x, np.float32) for x in scheduled.values())
        targets, returns, metrics = self._targets(state.returns, experiences)
        key, shuffle_key = self._split(state.key)
        shares: list[Metrics] = []
        for rows in minibatches(self._config, self._update_rows, shuffle_key):
            gradient = self._gradient(params, experiences, targets, rows, bonus)
            params, optimizer_state, share = self._apply_gradient(params, optimizer_state, gradient, rate)
            shares.append(share)
        if self._config.normalize_observations:
            params |= moments(statistics)
        metrics |= self._sum(shares) | scheduled | at_clip | {"weight_norm": self._weight_norm(params)}
        return ReinforceState(params, optimizer_state, returns, statistics, key), metrics

    def scheduled(self, progress: float) -> Metrics:
        """The scheduled settings after the share ``progress`` of the schedule."""
        config = self._config
        return {
            "learning_rate": self._learning_rate(progress),
            "entropy_bonus": config.entropy_bonus * (1 + progress * (config.final_entropy_bonus_fraction - 1)),
        }

    def value_scale(self, state: ReinforceState) -> ValueScale:
        return value_scale(state.returns) if self._config.normalize_value else ValueScale()

    def _targets(
        self, running: Statistics, experiences: Sequence[Experience]
    ) -> tuple[list[Targets], Statistics, Metrics]:
        """Computes the targets of all lanes, one copy for each device of this process.

        Returns:
          The targets on each device, the new running statistics of returns, and metrics.
        """
        team = self._team
        transitions = team.sharded([transitions_of(experience) for experience in experiences], axis=1)
        everywhere = self._make_targets(transitions, jax.device_get(running))
        _, returns, metrics = team.here(everywhere)
        return [team.here(everywhere[0], number) for number in range(len(team.devices))], returns, metrics

    def _gradient(
        self,
        params: Params,
        experiences: Sequence[Experience],
        targets: Sequence[Targets],
        rows: np.ndarray,
        bonus: np.ndarray,
    ) -> Gradient:
        """Computes the gradient of one update from the agent steps ``rows`` in the lanes of all devices."""
        team, of_devices = self._team, []
        for number, (device, experience) in enumerate(zip(team.devices, experiences, strict=True)):
            copy, own = jax.device_put(params, device), targets[number]
            first_lane = (team.first_device + number) * experience.reward.shape[1]
            total_weight = self._weight_of_rows(own.weight, rows)
            sums: Gradient | None = None
            for chunk in rows.reshape(-1, self._chunk_rows):
                # waiting is up to a tenth faster on CPU than dispatching all chunks at once (docs/performance.md)
                jax.block_until_ready(sums)
                sums = self._add_gradient(sums, copy, experience.tape, first_lane, own, chunk, total_weight, bonus)
            of_devices.append(sums)
        return team.reduce(sum_over_devices, of_devices)


def _targets_everywhere(
    config: ReinforceConfig, team: Team, transitions: Transitions, running: Statistics
) -> tuple[Targets, Statistics, Metrics]:
    """Runs ``make_targets`` for all lanes on every device; transitions are small enough to copy to all devices."""
    transitions = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, team.everywhere), transitions)
    return make_targets(config, transitions, running)


def _make(ingredients: Ingredients[ReinforceConfig]) -> Learner:
    return make_reinforce(
        ingredients.config,
        ingredients.policy,
        ingredients.observation,
        make_optimizer(ingredients.optimizer),
        num_lanes=ingredients.num_lanes,
        learning_rate=partial(learning_rate_at, ingredients.optimizer),
        team=ingredients.team,
        input_shape=ingredients.input_shape,
    )


def _for_playing(config: ReinforceConfig) -> ReinforceConfig:
    return ReinforceConfig(
        baseline=config.baseline,
        normalize_value=config.normalize_value and config.baseline == "value",
        normalize_observations=config.normalize_observations,
    )


def _memory(config: ReinforceConfig, sizes: Sizes) -> list[Part]:
    update = config.agent_steps_per_update(sizes.all_lanes) * sizes.num_lanes // sizes.all_lanes
    key, chunk = "reinforce.minibatch_agent_steps", update
    if jax.default_backend() == "cpu":
        key, chunk = "reinforce.chunk_agent_steps", min(update, max(config.chunk_agent_steps, sizes.num_lanes))
    what = f"the gradient of {chunk} agent steps at once"
    return [Part(key, what, chunk * sizes.gradient_bytes, on_device=True)]


def _returns_to_go(config: ReinforceConfig, rewards: np.ndarray, life_lost: np.ndarray) -> np.ndarray:
    """The return-to-go of each agent step of one episode, ``f32[T]``, with the discount, cuts and reward transform of
    the settings. Values play no part in it, whatever ``td_lambda`` is.
    """
    steps = len(rewards)
    discount, lambda_ = credit(
        jnp.asarray(rewards),
        terminated=jnp.arange(steps) == steps - 1,
        truncated=jnp.zeros(steps, bool),
        life_lost=jnp.asarray(life_lost),
        acted=jnp.ones(steps, bool),
        discount=config.discount,
        lambda_=1.0,
        cut_at_reward=config.cut_at_reward,
        cut_at_life_loss=config.cut_at_life_loss,
    )
    seen = config.reward_scale * transformed(jnp.asarray(rewards), config.reward_transform)
    return np.asarray(lambda_returns(seen, discount, jnp.zeros(steps + 1), lambda_))


REINFORCE = LearnerKind(
    config=ReinforceConfig,
    make=_make,
    has_value=lambda config: config.baseline == "value",
    normalizes_observations=lambda config: config.normalize_observations,
    sweepable=("optimizer.learning_rate", "reinforce.entropy_bonus", *(f"reinforce.{name}" for name in SWEPT)),
    rollout_setting="rollout_agent_steps",
    fitted=with_fitting_minibatch,
    for_playing=_for_playing,
    memory=_memory,
    returns_to_go=_returns_to_go,
)
