"""Evolution strategies: a population of perturbed copies of one policy.

Two estimators of the gradient are available: OpenAI-ES (Salimans et al. 2017, algorithm 1 with antithetic pairs and
centred ranks, section 2.1) and ARS (Mania et al. 2018, algorithm 2). The run's Optax chain makes the step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import Field

from jaxpg.core.errors import UserError
from jaxpg.core.types import Episodes, Experience, Params, Population
from jaxpg.core.validation import STRICT, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from jaxpg.learners.base import Ingredients, Learner, LearnerKind, Metrics, Sizes
from jaxpg.learners.episode_counts import add_episodes, best_scored, missing_episodes
from jaxpg.learners.observation_statistics import add_seen, input_clip_fraction, moments
from jaxpg.learners.optimizers import learning_rate_at, make_optimizer
from jaxpg.learners.statistics import Statistics, no_statistics
from jaxpg.machine import memory_estimate
from jaxpg.parallel.team import Team
from jaxpg.policies.observations import Observation


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """Evolution strategies."""

    __pydantic_config__ = STRICT

    pairs: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Antithetic pairs in a generation; 2 candidates each."""
    noise_std: PositiveFloat = 0.05
    """Standard deviation of the noise on every weight (sigma; nu in ARS)."""
    weighting: Literal["centred_ranks", "reward_std"] = "centred_ranks"
    """How a candidate's return weighs in the gradient: by its rank, scaled to [-0.5, 0.5] (centred_ranks, as in
    OpenAI-ES), or by the return itself over the standard deviation of all returns (reward_std, as in ARS)."""
    top_pairs: NonNegativeInt = 0
    """Pairs used for the gradient: those with the best single return (b in ARS); 0 for all."""
    weight_decay: NonNegativeFloat = 0.0
    """Share of each weight that is added to its gradient (OpenAI-ES uses 0.005)."""
    episodes_per_candidate: PositiveInt = 1
    """Games whose mean return is a candidate's score."""
    normalize_observations: bool = False
    """Whether inputs are standardised by the mean and standard deviation of all earlier inputs (ARS-V2), and clipped to
    [-10, 10]. The metric input_clip_fraction is the share of inputs that the clip bounds."""
    greedy: bool = True
    """Whether candidates take the most probable action; else they sample."""
    generations: NonNegativeInt = 0
    """Generations after which the run ends; 0 for as many as the budget allows. A learning-rate schedule spans
    run.schedule_agent_steps, whatever this number is."""


class EvolutionState(NamedTuple):
    """Everything that evolution needs to continue."""

    params: Params
    optimizer: optax.OptState
    generation: jax.Array  # i32[]
    return_sums: jax.Array  # f32[2 * pairs], sum of each candidate's returns in this generation
    num_games: jax.Array  # i32[2 * pairs], number of each candidate's episodes in this generation
    statistics: Statistics  # of observations; scalars where unused
    key: jax.Array  # typed PRNG key of the noise


def make_evolution(
    config: EvolutionConfig,
    observation: Observation,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[float], float],
    input_shape: tuple[int, ...],
    team: Team,
) -> Learner:
    """Builds the learner.

    Candidate ``2 * pairs * generation + 2 * i`` is theta plus the noise of pair ``i``; the next candidate is theta
    minus the same noise. With ``normalize_observations`` the params are those of ``policies.networks.with_normalizer``.

    Args:
      config: the settings of evolution.
      observation: decodes the tape, for the statistics of observations.
      optimizer: any Optax chain; its update gets the learning rate as an argument where it accepts one.
      learning_rate: ``share of the schedule that is over -> learning rate``.
      input_shape: shape of one policy input.
      team: the devices that play, whose observations are counted.

    Raises:
      UserError: settings contradict each other.
    """
    if config.top_pairs > config.pairs:
        raise UserError(f"evolution.top_pairs: {config.top_pairs} is more than the {config.pairs} pairs there are")
    learner = _Evolution(config, observation, optimizer, learning_rate, input_shape, team)
    return Learner(
        init=learner.init,
        ask=learner.ask,
        tell=learner.tell,
        keeps_tape=config.normalize_observations,
        greedy=config.greedy,
        episodes_to_play=learner.episodes_to_play,
        progress_metrics=("generation", "scored"),
        score="generation_return_mean",
        result=learner.result,
    )


class _Evolution:
    """The learner's functions, jitted for one configuration. The arguments are those of ``make_evolution``."""

    def __init__(
        self,
        config: EvolutionConfig,
        observation: Observation,
        optimizer: optax.GradientTransformation,
        learning_rate: Callable[[float], float],
        input_shape: tuple[int, ...],
        team: Team,
    ):
        self._config, self._observation, self._team = config, observation, team
        self._optimizer, self._learning_rate = optimizer, learning_rate
        self._input_shape = input_shape if config.normalize_observations else ()
        self._population_size = 2 * config.pairs
        self._perturb = jax.jit(partial(_perturbed, config))
        self._step = jax.jit(partial(_step, config, optax.with_extra_args_support(optimizer).update))

    def init(self, key: jax.Array, params: Params) -> EvolutionState:
        return EvolutionState(
            params=params,
            optimizer=self._optimizer.init(_weights(self._config, params)),
            generation=jnp.zeros((), jnp.int32),
            return_sums=jnp.zeros(self._population_size),
            num_games=jnp.zeros(self._population_size, jnp.int32),
            statistics=no_statistics(self._input_shape),
            key=key,
        )

    def ask(self, state: EvolutionState, ids: jax.Array) -> Population:
        return self._perturb(state.params, state.key, ids)

    def tell(
        self, state: EvolutionState, experiences: Sequence[Experience], episodes: Episodes, progress: float
    ) -> tuple[EvolutionState, Metrics]:
        config = self._config
        first = int(state.generation) * self._population_size
        sums, counts = add_episodes(
            state.return_sums, state.num_games, episodes.candidate - first, episodes.episode_return
        )
        state = state._replace(return_sums=jnp.asarray(sums), num_games=jnp.asarray(counts))
        rate = self._learning_rate(progress)
        scored = counts >= config.episodes_per_candidate
        metrics: Metrics = {"generation": state.generation, "scored": np.mean(scored), "learning_rate": rate}
        if config.normalize_observations:
            share = input_clip_fraction(state.params, self._observation, experiences, self._team)
            metrics["input_clip_fraction"] = share
            state = state._replace(statistics=add_seen(state.statistics, self._observation, experiences, self._team))
        if scored.all():
            state, of_generation = self._next_generation(state, sums / counts, rate)
            metrics |= of_generation
        return state, metrics

    def episodes_to_play(self, state: EvolutionState) -> np.ndarray:
        config = self._config
        if config.generations and int(state.generation) >= config.generations:
            return np.zeros(0, np.int64)
        ids = int(state.generation) * self._population_size + np.arange(self._population_size)
        return missing_episodes(ids, state.num_games, config.episodes_per_candidate)

    def result(self, state: EvolutionState) -> tuple[Params, str]:
        if int(state.generation):
            return state.params, ""

        def candidate(place: int) -> Params:
            return jax.tree.map(lambda x: x[0], self.ask(state, jnp.array([place], jnp.int32)))

        wanted, unfinished = self._config.episodes_per_candidate, "the first generation"
        return best_scored(state.return_sums, state.num_games, wanted, candidate, unfinished=unfinished)

    def _next_generation(
        self, state: EvolutionState, returns: np.ndarray, rate: float
    ) -> tuple[EvolutionState, Metrics]:
        """Makes the step for a finished generation with the mean return of each candidate, ``f32[2 * pairs]``."""
        params, optimizer_state, metrics = self._step(
            state.params,
            state.optimizer,
            state.key,
            state.generation,
            jnp.asarray(returns),
            np.asarray(rate, np.float32),
        )
        if self._config.normalize_observations:
            params |= moments(state.statistics)
        after = state._replace(
            params=params,
            optimizer=optimizer_state,
            generation=state.generation + 1,
            return_sums=jnp.zeros_like(state.return_sums),
            num_games=jnp.zeros_like(state.num_games),
        )
        return after, metrics


def _perturbed(config: EvolutionConfig, params: Params, key: jax.Array, ids: jax.Array) -> Population:
    """The weights of the candidates ``ids`` (``i32[K]``), on a leading axis of length K."""
    population_size = 2 * config.pairs

    def one(candidate: jax.Array) -> Params:
        generation, index = candidate // population_size, candidate % population_size
        noise = _noise(jax.random.fold_in(key, generation), index // 2, _weights(config, params))
        scale = config.noise_std * (1 - 2 * (index % 2))
        weights = jax.tree.map(lambda w, e: w + scale * e, _weights(config, params), noise)
        return _with_weights(config, params, weights)

    return jax.vmap(one)(ids)


def _step(
    config: EvolutionConfig,
    update: Callable[..., tuple[optax.Updates, optax.OptState]],
    params: Params,
    optimizer_state: optax.OptState,
    key: jax.Array,
    generation: jax.Array,
    returns: jax.Array,
    rate: np.ndarray,
) -> tuple[Params, optax.OptState, Metrics]:
    """Makes one step of the optimizer along the estimated gradient.

    Args:
      config: determines the estimator.
      update: the optimizer's update.
      params: the policy that was perturbed.
      optimizer_state: the optimizer's state before the step.
      key: the key of the noise.
      generation: ``i32[]``.
      returns: ``f32[2 * pairs]``, mean return of each candidate, in the order of the ids.
      rate: ``f32[]``, learning rate.

    Returns:
      The new params, the new optimizer state, and metrics of the generation.
    """
    weights = _weights(config, params)
    pair_weights = weights_of_pairs(config, returns.reshape(-1, 2))
    generation_key = jax.random.fold_in(key, generation)

    def add(total: Params, pair: tuple[jax.Array, jax.Array]) -> tuple[Params, None]:
        index, weight = pair
        noise = _noise(generation_key, index, weights)
        return jax.tree.map(lambda t, e: t + weight * e, total, noise), None

    zero = jax.tree.map(jnp.zeros_like, weights)
    ascent, _ = jax.lax.scan(add, zero, (jnp.arange(config.pairs), pair_weights))
    gradient = jax.tree.map(lambda a, w: config.weight_decay * w - a, ascent, weights)
    updates, optimizer_state = update(gradient, optimizer_state, weights, learning_rate=rate)
    metrics = {
        "generation_return_mean": returns.mean(),
        "generation_return_max": returns.max(),
        "generation_return_std": returns.std(),
        "gradient_norm": optax.tree.norm(gradient),
        "weight_norm": optax.tree.norm(weights),
    }
    return _with_weights(config, params, optax.apply_updates(weights, updates)), optimizer_state, metrics


def weights_of_pairs(config: EvolutionConfig, returns: jax.Array) -> jax.Array:
    """Computes the factor on each pair's noise in the direction of ascent.

    Args:
      config: determines the estimator.
      returns: ``f32[pairs, 2]``, mean returns of theta plus the noise and of theta minus the noise.

    Returns:
      ``f32[pairs]``. OpenAI-ES: the difference of centred ranks, divided by 2 b sigma. ARS: the difference of returns,
      divided by b sigma_R. Here b is the number of pairs used; the factor of the other pairs is 0.
    """
    pairs = returns.shape[0]
    used = config.top_pairs or pairs
    best = jnp.argsort(-returns.max(axis=1), stable=True)[:used]
    chosen = returns[best]
    if config.weighting == "centred_ranks":
        shaped = centred_ranks(chosen.reshape(-1)).reshape(used, 2)
        factor = (shaped[:, 0] - shaped[:, 1]) / (2 * used * config.noise_std)
    else:
        std = chosen.std()
        factor = jnp.where(std > 0, (chosen[:, 0] - chosen[:, 1]) / (used * jnp.where(std > 0, std, 1.0)), 0.0)
    return jnp.zeros(pairs).at[best].set(factor)


def centred_ranks(returns: jax.Array) -> jax.Array:
    """Ranks of K returns, scaled to [-0.5, 0.5]: ``f32[K]``. Equal returns share their mean rank."""
    return (jax.scipy.stats.rankdata(returns) - 1) / max(len(returns) - 1, 1) - 0.5


def _noise(key: jax.Array, pair: jax.Array, like: Params) -> Params:
    """Draws one pair's standard normal noise, a pure function of the generation's key and the pair's number."""
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(jax.random.fold_in(key, pair), len(leaves))
    return jax.tree.unflatten(tree, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])


def _weights(config: EvolutionConfig, params: Params) -> Params:
    """The part of the params that evolves: all but the normaliser's mean and standard deviation."""
    return params["policy"] if config.normalize_observations else params


def _with_weights(config: EvolutionConfig, params: Params, weights: Params) -> Params:
    """The params with other weights; the inverse of ``_weights``."""
    return {**params, "policy": weights} if config.normalize_observations else weights


def _make(ingredients: Ingredients[EvolutionConfig]) -> Learner:
    optimizer = ingredients.optimizer
    return make_evolution(
        ingredients.config,
        ingredients.observation,
        make_optimizer(optimizer),
        partial(learning_rate_at, optimizer),
        ingredients.input_shape,
        ingredients.team,
    )


def _memory(config: EvolutionConfig, sizes: Sizes) -> list[memory_estimate.Part]:
    games = 2 * config.pairs * config.episodes_per_candidate
    return [
        memory_estimate.candidates(sizes.num_lanes, sizes.weight_bytes),
        memory_estimate.queued_episodes("evolution.episodes_per_candidate", games),
    ]


EVOLUTION = LearnerKind(
    config=EvolutionConfig,
    make=_make,
    normalizes_observations=lambda config: config.normalize_observations,
    for_playing=lambda config: replace(config, top_pairs=min(config.top_pairs, config.pairs)),
    memory=_memory,
)
