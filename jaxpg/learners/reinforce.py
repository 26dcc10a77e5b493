"""REINFORCE (Williams 1992), the population of one that perturbs actions.

With ``epochs: 1`` every agent step is used once, right after it was played, in the plain score-function
estimator: no ratio, no clipping, no replay. More epochs reuse a batch and then need the clipped ratio.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxpg import losses
from jaxpg.errors import UserError
from jaxpg.learners.base import Learner, Metrics
from jaxpg.learners.batches import minibatches, rows_per_chunk, rows_per_update
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.moments import Statistics, add_seen, moments, no_statistics
from jaxpg.observations import Observation
from jaxpg.policies import on_tape
from jaxpg.returns import credit, lambda_returns, total_minus_step, transformed
from jaxpg.team import Team
from jaxpg.types import Episodes, Experience, Outputs, Params, PolicyFunctions, Population, Tape


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
    update_rows = rows_per_update(config, num_lanes)
    chunk_rows = rows_per_chunk(config, num_lanes // team.num_devices, update_rows)
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

    act = on_tape(policy, observation)
    num_updates = config.epochs * config.rollout_agent_steps // update_rows
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
        outputs: Outputs, chunk: Tape, targets: _Targets, total_weight: jax.Array, entropy_bonus: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        logits, value = outputs
        old_log_prob = losses.log_prob_of(chunk.logits, chunk.action)
        log_prob = losses.log_prob_of(logits, chunk.action)
        if config.probability_clip:
            log_prob = losses.clip_probability(log_prob, config.probability_clip)
        if config.epochs == 1:
            policy_loss = losses.policy_gradient_loss(log_prob, targets.advantage, targets.weight)
        else:
            policy_loss = losses.clipped_ratio_loss(
                log_prob, old_log_prob, targets.advantage, targets.weight, config.clip_epsilon
            )
        entropy = jnp.sum(targets.weight * losses.entropy(logits))
        value_loss = (
            losses.value_loss(value, targets.value_target, targets.weight) if policy.has_value else jnp.zeros(())
        )
        parts = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": jnp.sum(targets.weight * (old_log_prob - log_prob)),
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
        """Adds the gradient of one device's ``rows``."""
        progress = jnp.minimum(iteration / schedule_iterations, 1.0)
        bonus = config.entropy_bonus * (1 + progress * (config.final_entropy_bonus_fraction - 1))
        own_lanes = partial(
            jax.lax.dynamic_slice_in_dim, start_index=first_lane, slice_size=tape.action.shape[1], axis=1
        )
        flat = partial(jax.tree.map, lambda x: x.reshape(-1, *x.shape[2:]))
        chunk = flat(jax.tree.map(lambda x: x[rows], tape))
        own_targets = flat(jax.tree.map(lambda x: own_lanes(x[rows]), targets))
        loss_of = partial(loss, chunk=chunk, targets=own_targets, total_weight=total_weight, entropy_bonus=bonus)
        gradient, parts = jax.grad(lambda params: loss_of(act(params, chunk.observation)), has_aux=True)(params)
        return (gradient, parts) if sums is None else jax.tree.map(jnp.add, sums, (gradient, parts))

    @jax.jit
    def total_weight_of(weight: jax.Array, rows: np.ndarray) -> jax.Array:
        return jnp.maximum(weight[rows].sum(), 1.0)

    @partial(jax.jit, donate_argnames=("params", "optimizer_state", "means"))
    def apply_gradient(
        params: Params, optimizer_state: optax.OptState, sums: tuple[Params, Metrics], means: Metrics | None
    ) -> tuple[Params, optax.OptState, Metrics]:
        gradient, parts = sums
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        # the barrier keeps XLA on CPU from storing the squares to share them with an optimizer that squares, too
        norm = optax.tree.norm(jax.lax.optimization_barrier(gradient))
        shares = {name: x / num_updates for name, x in (parts | {"gradient_norm": norm}).items()}
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
        for rows in minibatches(config, update_rows, shuffle_key):
            of_devices = []
            for number, (device, experience) in enumerate(zip(team.devices, experiences, strict=True)):
                copy, targets = jax.device_put(params, device), all_targets[number]
                first_lane = (team.first_device + number) * experience.reward.shape[1]
                total_weight = total_weight_of(targets.weight, rows)
                sums: tuple[Params, Metrics] | None = None
                for chunk in rows.reshape(-1, chunk_rows):
                    # on CPU up to a tenth faster than handing over all chunks at once (docs/performance.md)
                    jax.block_until_ready(sums)
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


def _sum_over_devices(of_devices: tuple[Params, Metrics]) -> tuple[Params, Metrics]:
    return jax.tree.map(lambda x: x.sum(0), of_devices)


def _deviation(moments_of_return: jax.Array) -> jax.Array:
    """Standard deviation from the mean and the mean square, ``f32[2]``."""
    return jnp.sqrt(jnp.maximum(moments_of_return[1] - moments_of_return[0] ** 2, 1e-8))
