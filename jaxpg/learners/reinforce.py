"""REINFORCE (Williams 1992), the population of one that perturbs actions.

With ``epochs: 1`` every agent step is used once, right after it was played, in the plain score-function
estimator: no ratio, no clipping, no replay. More epochs reuse a batch and then need the clipped ratio.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field

from jaxpg import losses
from jaxpg.errors import UserError
from jaxpg.learners.base import Learner, Metrics
from jaxpg.moments import Statistics, add_seen, moments, no_statistics
from jaxpg.observations import Observation
from jaxpg.returns import RewardTransform, credit, lambda_returns, total_minus_step, transformed
from jaxpg.team import Team
from jaxpg.types import Episodes, Experience, Params, PolicyFunctions, Population, Tape
from jaxpg.validation import STRICT, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    """The policy-gradient learner."""

    __pydantic_config__ = STRICT

    rollout_agent_steps: PositiveInt = 32
    """Agent steps in every lane between two updates (T)."""
    discount: Fraction = 0.99
    """Weight of a reward one agent step later."""
    weighting: Literal["return_to_go", "total_minus_step"] = "return_to_go"
    """What an action is credited with. total_minus_step, the game's whole return minus the number of the agent step in
    it, is a beginner's estimator kept for comparison; it learns from games that lie whole within one rollout."""
    td_lambda: Fraction = 1.0
    """Mix of full returns (1) and values (0) in the return-to-go; below 1 needs the value baseline."""
    baseline: Literal["none", "batch", "ema", "value"] = "value"
    """What is subtracted from the return: nothing, the batch's mean, a running mean, or a value network.
    batch and ema also divide by the standard deviation."""
    ema_decay: Fraction = 0.99
    """How slowly the running mean and deviation of the return forget (ema baseline, normalize_value)."""
    cut_at_reward: bool = True
    """Whether any nonzero reward ends the credit, as a point does in Pong."""
    cut_at_life_loss: bool = False
    """Whether a lost life ends the credit."""
    reward_transform: RewardTransform = "none"
    """What the learner sees of a reward: all of it, clipped to [-1, 1] (Mnih et al. 2015), or its signed root,
    sign(r) (sqrt(|r| + 1) - 1) (Pohlen et al. 2018). Reported returns are never transformed."""
    reward_scale: PositiveFloat = 1.0
    """Factor on what the learner sees, so that returns-to-go are of order 1 and the value loss leaves room for the
    policy's."""
    normalize_advantage: bool = True
    """Whether advantages are standardised over the batch (value baseline only)."""
    normalize_value: bool = False
    """Whether the value head learns the return minus its running mean, over its running deviation, so that one recipe
    fits games that count in ones and in thousands (van Hasselt et al. 2016, without their rescaled head). The values
    that videos show are then on that scale."""
    normalize_observations: bool = False
    """Whether inputs are standardised by the mean and standard deviation of all seen before. What is constant on the
    screen then teaches nothing, and what moves does."""
    entropy_bonus: NonNegativeFloat = 0.01
    """Weight of the policy's entropy at the start, against premature certainty."""
    final_entropy_bonus_fraction: Fraction = 0.1
    """The same at the end of the schedule, as a share of the start; linear in between."""
    value_coefficient: NonNegativeFloat = 0.5
    """Weight of the value loss."""
    epochs: PositiveInt = 1
    """Passes over each batch; 1 is the plain score-function estimator, more use the clipped ratio."""
    minibatch_agent_steps: NonNegativeInt = 0
    """Agent steps in one update; 0 for the whole batch. A multiple of the lanes that divides the batch."""
    clip_epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Half-width of the ratio's interval when epochs > 1."""
    probability_clip: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probabilities are clipped to [this, 1 - this] in the loss, so that actions beyond it teach nothing; 0 for no
    clip."""
    chunk_agent_steps: PositiveInt = 512
    """Agent steps differentiated at once on CPU, small enough that buffers stay in cache."""


class ReinforceState(NamedTuple):
    """Everything that learning needs to go on."""

    params: Params
    optimizer: optax.OptState
    iteration: jax.Array  # shape=(), dtype=int32
    ema: jax.Array  # shape=(2,), float32: running mean of the return and of its square
    statistics: Statistics  # of observations; scalars where unused
    key: jax.Array  # typed PRNG key of the shuffles


_HAPPENED = ("reward", "terminated", "truncated", "life_lost", "acted")
"""The fields of Experience that returns are made of."""


class _Targets(NamedTuple):
    """What the losses need besides the tape: ``f32[T, N]`` each."""

    advantage: jax.Array
    value_target: jax.Array
    weight: jax.Array


def make_reinforce(
    config: ReinforceConfig,
    policy: PolicyFunctions,
    observation: Observation,
    optimizer: optax.GradientTransformation,
    *,
    num_lanes: int,
    schedule_iterations: int,
    team: Team,
    input_shape: tuple[int, ...] = (),
) -> Learner:
    """Builds the learner.

    With ``normalize_observations`` the params are those of ``policies.with_normalizer``.

    Args:
      config: what the user chose.
      policy: with a value head exactly when the baseline is ``value``.
      observation: decodes the tape.
      optimizer: any Optax chain.
      num_lanes: N, of all devices.
      schedule_iterations: iterations over which the entropy bonus goes from its start to its end.
      team: the devices, each of which differentiates what its own lanes played.
      input_shape: shape of one policy input, where inputs are standardised.

    Raises:
      UserError: settings that contradict each other.
    """
    if config.weighting == "total_minus_step" and config.baseline == "value":
        raise UserError(
            "reinforce.weighting: total_minus_step is no return that a value could estimate; "
            "use reinforce.baseline none, batch or ema"
        )
    if config.normalize_value and config.baseline != "value":
        raise UserError(f"reinforce.normalize_value: needs reinforce.baseline value, not {config.baseline!r}")
    rows_per_update = _rows_per_update(config, num_lanes)
    rows_per_chunk = _rows_per_chunk(config, num_lanes // team.num_devices, rows_per_update)
    schedule_iterations = min(max(schedule_iterations, 1), 2**31 - 1)  # the state counts to there

    def init(key: jax.Array, params: Params) -> ReinforceState:
        return ReinforceState(
            params=params,
            optimizer=optimizer.init(params),
            iteration=jnp.zeros((), jnp.int32),
            ema=jnp.array([0.0, 0.0 if config.normalize_value else 1.0]),  # the value before anything is known: 0
            statistics=no_statistics(input_shape if config.normalize_observations else ()),
            key=key,
        )

    num_updates = config.epochs * config.rollout_agent_steps // rows_per_update
    as_population = jax.jit(partial(jax.tree.map, lambda x: x[None]))

    def ask(state: ReinforceState, ids: jax.Array) -> Population:
        del ids  # there is one candidate
        return as_population(state.params)

    @partial(jax.jit, out_shardings=team.everywhere)
    def prepare(played: jax.Array, ema: jax.Array, iteration: jax.Array) -> tuple[_Targets, jax.Array, Metrics]:
        played = jax.lax.with_sharding_constraint(played, team.everywhere)  # so little that each device has all of it
        value, reward, *flags = played[0], *played[1:, :-1]
        terminated, truncated, life_lost, acted = (flag > 0 for flag in flags)
        weight = acted.astype(jnp.float32)
        seen_reward = config.reward_scale * transformed(reward, config.reward_transform)
        if config.normalize_value:
            value = ema[0] + value * _deviation(ema)
        stream = partial(
            credit,
            discount=config.discount,
            lambda_=config.td_lambda,
            cut_at_reward=config.cut_at_reward,
            cut_at_life_loss=config.cut_at_life_loss,
        )
        over_lanes = partial(jax.vmap, in_axes=1, out_axes=1)
        discounts, lambdas = over_lanes(stream)(reward, terminated, truncated, life_lost, acted)
        returns = over_lanes(lambda_returns)(seen_reward, discounts, value, lambdas)
        if config.weighting == "total_minus_step":
            returns, weight = over_lanes(total_minus_step)(seen_reward, terminated | truncated, acted)
        batch_moments = jnp.stack([losses.weighted_mean(returns, weight), losses.weighted_mean(returns**2, weight)])
        value_target = returns
        match config.baseline:
            case "none":
                advantage = returns
            case "batch":
                advantage = losses.standardise(returns, weight)
            case "ema":
                advantage = (returns - ema[0]) / _deviation(ema)
                ema = config.ema_decay * ema + (1 - config.ema_decay) * batch_moments
            case "value":
                advantage = returns - value[:-1]
                if config.normalize_advantage:
                    advantage = losses.standardise(advantage, weight)
                if config.normalize_value:  # at first all batches weigh alike, else the scale of the first would linger
                    decay = jnp.minimum(config.ema_decay, iteration / (iteration + 1))
                    ema = decay * ema + (1 - decay) * batch_moments
                    value_target = (returns - ema[0]) / _deviation(ema)
        residual = losses.weighted_mean(jnp.square(returns - value[:-1]), weight)
        centred = returns - batch_moments[0]
        metrics = {
            "return_to_go_mean": batch_moments[0],
            "explained_variance": 1 - residual / jnp.maximum(losses.weighted_mean(centred**2, weight), 1e-8),
        }
        return _Targets(advantage, value_target, weight), ema, metrics

    def loss(
        params: Params, chunk: Tape, targets: _Targets, total_weight: jax.Array, entropy_bonus: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        flat = partial(jax.tree.map, lambda x: x.reshape(-1, *x.shape[2:]))
        chunk, targets = flat(chunk), flat(targets)
        logits, value = jax.vmap(lambda x: policy.apply(params, observation.decode(x)))(chunk.observation)
        log_prob = losses.log_prob_of(logits, chunk.action)
        if config.probability_clip:
            log_prob = losses.clip_probability(log_prob, config.probability_clip)
        if config.epochs == 1:
            policy_loss = losses.policy_gradient_loss(log_prob, targets.advantage, targets.weight)
        else:
            policy_loss = losses.clipped_ratio_loss(
                log_prob, chunk.log_prob, targets.advantage, targets.weight, config.clip_epsilon
            )
        entropy = jnp.sum(targets.weight * losses.entropy(logits))
        value_loss = (
            losses.value_loss(value, targets.value_target, targets.weight) if policy.has_value else jnp.zeros(())
        )
        parts = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": jnp.sum(targets.weight * (chunk.log_prob - log_prob)),
        }
        parts = {name: part / total_weight for name, part in parts.items()}
        total = parts["policy_loss"] + config.value_coefficient * parts["value_loss"] - entropy_bonus * parts["entropy"]
        return total, parts

    @partial(jax.jit, donate_argnames="sums")
    def add_gradient(
        sums: tuple[Params, Metrics] | None,
        params: Params,
        tape: Tape,
        first_lane: int,
        targets: _Targets,
        rows: np.ndarray,
        total_weight: jax.Array,
        iteration: jax.Array,
    ) -> tuple[Params, Metrics]:
        """Of one device, led by an axis of 1, which is where those of all devices meet."""
        progress = jnp.minimum(iteration / schedule_iterations, 1.0)
        bonus = config.entropy_bonus * (1 + progress * (config.final_entropy_bonus_fraction - 1))
        own_lanes = partial(
            jax.lax.dynamic_slice_in_dim, start_index=first_lane, slice_size=tape.action.shape[1], axis=1
        )
        chunk = jax.tree.map(lambda x: x[rows], tape)
        chunk_targets = jax.tree.map(lambda x: own_lanes(x[rows]), targets)
        (_, parts), gradient = jax.value_and_grad(loss, has_aux=True)(params, chunk, chunk_targets, total_weight, bonus)
        own = jax.tree.map(lambda x: x[None], (gradient, parts))
        return own if sums is None else jax.tree.map(jnp.add, sums, own)

    @jax.jit
    def total_weight_of(weight: jax.Array, rows: np.ndarray) -> jax.Array:
        return jnp.maximum(weight[rows].sum(), 1.0)

    @partial(jax.jit, donate_argnames=("params", "optimizer_state", "means"))
    def apply_gradient(
        params: Params, optimizer_state: optax.OptState, sums: tuple[Params, Metrics], means: Metrics | None
    ) -> tuple[Params, optax.OptState, Metrics]:
        gradient, parts = sums
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        shares = {name: x / num_updates for name, x in (parts | {"gradient_norm": optax.tree.norm(gradient)}).items()}
        means = shares if means is None else jax.tree.map(jnp.add, means, shares)
        return optax.apply_updates(params, updates), optimizer_state, means

    @jax.jit
    def advance(key: jax.Array, iteration: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        key, shuffle_key = jax.random.split(key)
        return key, shuffle_key, iteration + 1

    def tell(
        state: ReinforceState, experiences: Sequence[Experience], episodes: Episodes
    ) -> tuple[ReinforceState, Metrics]:
        del episodes  # their rewards are known step by step
        params, optimizer_state, statistics = state.params, state.optimizer, state.statistics
        if config.normalize_observations:  # first, because the updates consume the params, which hold the same mean
            statistics = add_seen(statistics, observation, experiences, team)
        iteration = np.asarray(state.iteration)
        played = team.sharded([_played(experience) for experience in experiences], axis=2)
        everywhere = prepare(played, np.asarray(state.ema), iteration)
        _, ema, metrics = team.here(everywhere)
        all_targets = [team.here(everywhere[0], device) for device in range(len(team.devices))]
        key, shuffle_key, next_iteration = advance(state.key, state.iteration)
        means: Metrics | None = None
        for rows in _minibatches(config, rows_per_update, shuffle_key):
            of_devices = []
            for number, (device, experience) in enumerate(zip(team.devices, experiences, strict=True)):
                copy, targets = jax.device_put(params, device), all_targets[number]
                first_lane = (team.first_device + number) * experience.reward.shape[1]
                total_weight = total_weight_of(targets.weight, rows)
                sums: tuple[Params, Metrics] | None = None
                for chunk in rows.reshape(-1, rows_per_chunk):
                    sums = add_gradient(
                        sums, copy, experience.tape, first_lane, targets, chunk, total_weight, iteration
                    )
                of_devices.append(sums)
            gradient = team.reduce(_sum_over_devices, of_devices)
            params, optimizer_state, means = apply_gradient(params, optimizer_state, gradient, means)
        assert means is not None
        if config.normalize_observations:
            params |= moments(statistics)
        return ReinforceState(params, optimizer_state, next_iteration, ema, statistics, key), metrics | means

    return Learner(init=init, ask=ask, tell=tell, keeps_tape=True)


def _played(experience: Experience) -> jax.Array:
    """What the returns of one device's lanes are made of, ``f32[6, T+1, N]``, where its tape is; the last row has only
    the value.
    """
    assert experience.tape is not None, "REINFORCE needs the tape"
    happened = np.stack([getattr(experience, field) for field in _HAPPENED], dtype=np.float32)
    return _beside(experience.tape.value, np.pad(happened, ((0, 0), (0, 1), (0, 0))))


@jax.jit
def _beside(value: jax.Array, happened: np.ndarray) -> jax.Array:
    return jnp.concatenate([value[None], happened])


def _sum_over_devices(of_devices: Any) -> Any:
    return jax.tree.map(lambda x: x.sum(0), of_devices)


def _deviation(moments_of_return: jax.Array) -> jax.Array:
    """Standard deviation from the mean and the mean square, ``f32[2]``."""
    return jnp.sqrt(jnp.maximum(moments_of_return[1] - moments_of_return[0] ** 2, 1e-8))


def _minibatches(config: ReinforceConfig, rows_per_update: int, key: jax.Array) -> Iterator[np.ndarray]:
    """Rows (agent steps of all lanes) of each update: in order for a whole batch, else shuffled each epoch."""
    steps = config.rollout_agent_steps
    for epoch in range(config.epochs):
        order = np.arange(steps)
        if rows_per_update < steps:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), steps))
        yield from order.reshape(-1, rows_per_update)


def _rows_per_update(config: ReinforceConfig, num_lanes: int) -> int:
    if config.td_lambda < 1 and config.baseline != "value":
        raise UserError(
            f"reinforce.td_lambda: {config.td_lambda} needs reinforce.baseline value, not {config.baseline!r}; use 1.0"
        )
    steps = config.rollout_agent_steps
    if config.minibatch_agent_steps == 0:
        return steps
    rows, rest = divmod(config.minibatch_agent_steps, num_lanes)
    if rest or rows == 0 or steps % rows:
        raise UserError(
            f"reinforce.minibatch_agent_steps: {config.minibatch_agent_steps} must be a multiple of the {num_lanes} "
            f"lanes and divide the batch of {steps * num_lanes} agent steps"
        )
    return rows


def _rows_per_chunk(config: ReinforceConfig, num_lanes: int, rows_per_update: int) -> int:
    if jax.default_backend() != "cpu":
        return rows_per_update
    most = max(config.chunk_agent_steps // num_lanes, 1)
    small = [rows for rows in range(1, math.isqrt(rows_per_update) + 1) if rows_per_update % rows == 0]
    divisors = small + [rows_per_update // rows for rows in small]  # in time even for a rollout of 2**31 agent steps
    return max(rows for rows in divisors if rows <= most)
