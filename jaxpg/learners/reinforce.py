"""REINFORCE (Williams 1992), the population of one that perturbs actions.

With ``epochs: 1`` every agent step is used once, right after it was played, in the plain score-function
estimator: no ratio, no clipping, no replay. More epochs reuse a batch and then need the clipped ratio.
"""

from collections.abc import Callable, Sequence
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
from jaxpg.moments import add_seen, moments
from jaxpg.observations import Observation
from jaxpg.policies import on_tape
from jaxpg.returns import credit, lambda_returns, total_minus_step, transformed
from jaxpg.statistics import Statistics, deviation, follow, no_statistics, of_sample
from jaxpg.team import Team
from jaxpg.types import Episodes, Experience, Outputs, Params, PolicyFunctions, Population, Tape


class ReinforceState(NamedTuple):
    """Everything that learning needs to go on."""

    params: Params
    optimizer: optax.OptState
    returns: Statistics  # of returns-to-go, where a running mean of them is used; scalars
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
    learning_rate: Callable[[float], float],
    team: Team,
    input_shape: tuple[int, ...] = (),
) -> Learner:
    """Builds the learner.

    With ``normalize_observations`` the params are those of ``policies.with_normalizer``.

    Args:
      config: what the user chose.
      policy: with a value head exactly when the baseline is ``value``.
      observation: decodes the tape.
      optimizer: any Optax chain; its update gets the learning rate where it asks for one.
      num_lanes: N, of all devices.
      learning_rate: by the share of the schedule that is over.
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
    update = optax.with_extra_args_support(optimizer).update

    def init(key: jax.Array, params: Params) -> ReinforceState:
        return ReinforceState(
            params=params,
            optimizer=optimizer.init(params),
            returns=no_statistics(),
            statistics=no_statistics(input_shape if config.normalize_observations else ()),
            key=key,
        )

    act = on_tape(policy, observation)
    num_updates = config.epochs * config.rollout_agent_steps // update_rows
    as_population = jax.jit(partial(jax.tree.map, lambda x: x[None]))
    split = jax.jit(lambda key: tuple(jax.random.split(key)))

    def ask(state: ReinforceState, ids: jax.Array) -> Population:
        del ids  # there is one candidate
        return as_population(state.params)

    @partial(jax.jit, out_shardings=team.everywhere)
    def prepare(played: jax.Array, running: Statistics) -> tuple[_Targets, Statistics, Metrics]:
        played = jax.lax.with_sharding_constraint(played, team.everywhere)  # so little that each device has all of it
        value, reward, *flags = played[0], *played[1:, :-1]
        terminated, truncated, life_lost, acted = (flag > 0 for flag in flags)
        weight = acted.astype(jnp.float32)
        seen_reward = config.reward_scale * transformed(reward, config.reward_transform)
        if config.normalize_value:
            value = running.mean + value * deviation(running)  # about 0 before anything is known
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
        batch = of_sample(returns, weight)
        following = follow(running, batch, config.ema_decay)
        value_target = returns
        match config.baseline:
            case "none":
                advantage = returns
            case "batch":
                advantage = losses.standardise(returns, weight)
            case "ema":
                advantage = _advantage_over(running, following, returns, weight)
            case "value":
                advantage = returns - value[:-1]
                if config.normalize_advantage:
                    advantage = losses.standardise(advantage, weight)
                if config.normalize_value:
                    value_target = (returns - following.mean) / deviation(following)
        metrics = {"return_to_go_mean": batch.mean}
        if policy.has_value:
            metrics["explained_variance"] = losses.explained_variance(value[:-1], returns, weight)
        return _Targets(advantage, value_target, weight), following, metrics

    def loss(
        outputs: Outputs, chunk: Tape, targets: _Targets, total_weight: jax.Array, entropy_bonus: np.ndarray
    ) -> tuple[jax.Array, Metrics]:
        logits, value = outputs
        old_log_prob = losses.log_prob_of(chunk.logits, chunk.action)
        log_prob = losses.log_prob_of(logits, chunk.action)
        kl = losses.kl_estimate(log_prob, old_log_prob)
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
            "kl": jnp.sum(targets.weight * kl),
        }
        if config.epochs > 1:
            clipped = losses.is_clipped(log_prob, old_log_prob, config.clip_epsilon)
            parts["clip_fraction"] = jnp.sum(targets.weight * clipped)
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
        bonus: np.ndarray,
    ) -> tuple[Params, Metrics]:
        """Adds the gradient of one device's ``rows``."""
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
        params: Params,
        optimizer_state: optax.OptState,
        sums: tuple[Params, Metrics],
        means: Metrics | None,
        rate: np.ndarray,
    ) -> tuple[Params, optax.OptState, Metrics]:
        gradient, parts = sums
        updates, optimizer_state = update(gradient, optimizer_state, params, learning_rate=rate)
        # the barrier keeps XLA on CPU from storing the squares to share them with an optimizer that squares, too
        norm = optax.tree.norm(jax.lax.optimization_barrier(gradient))
        shares = {name: x / num_updates for name, x in (parts | {"gradient_norm": norm}).items()}
        means = shares if means is None else jax.tree.map(jnp.add, means, shares)
        return optax.apply_updates(params, updates), optimizer_state, means

    @jax.jit
    def weight_norm(params: Params) -> jax.Array:
        return optax.tree.norm(params["policy"] if config.normalize_observations else params)

    def tell(
        state: ReinforceState, experiences: Sequence[Experience], episodes: Episodes, progress: float
    ) -> tuple[ReinforceState, Metrics]:
        del episodes  # their rewards are known step by step
        params, optimizer_state, statistics = state.params, state.optimizer, state.statistics
        if config.normalize_observations:  # first, because the updates consume the params, which hold the same mean
            statistics = add_seen(statistics, observation, experiences, team)
        scheduled = {
            "learning_rate": learning_rate(progress),
            "entropy_bonus": config.entropy_bonus * (1 + progress * (config.final_entropy_bonus_fraction - 1)),
        }
        rate, bonus = (np.asarray(x, np.float32) for x in scheduled.values())
        played = team.sharded([_played(experience) for experience in experiences], axis=2)
        everywhere = prepare(played, jax.device_get(state.returns))
        _, returns, metrics = team.here(everywhere)
        all_targets = [team.here(everywhere[0], device) for device in range(len(team.devices))]
        key, shuffle_key = split(state.key)
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
                    sums = add_gradient(sums, copy, experience.tape, first_lane, targets, chunk, total_weight, bonus)
                of_devices.append(sums)
            gradient = team.reduce(_sum_over_devices, of_devices)
            params, optimizer_state, means = apply_gradient(params, optimizer_state, gradient, means, rate)
        assert means is not None
        if config.normalize_observations:
            params |= moments(statistics)
        metrics |= means | scheduled | {"weight_norm": weight_norm(params)}
        return ReinforceState(params, optimizer_state, returns, statistics, key), metrics

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


def _advantage_over(running: Statistics, following: Statistics, returns: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns minus the running mean, over the running deviation or this batch's distance from that mean, whichever is
    larger, so that the advantages' root mean square is at most 1 even after a long time of equal returns.

    Args:
      running: before this batch, which therefore does not bias its own baseline.
      following: with it; of use where nothing was known before.
      returns: ``f32[T, N]``.
      weight: ``f32[T, N]``.
    """
    known = jax.tree.map(partial(jnp.where, running.number > 0), running, following)
    distance = returns - known.mean
    of_batch = jnp.sqrt(losses.weighted_mean(jnp.square(distance), weight))
    return distance / jnp.maximum(deviation(known), of_batch)
