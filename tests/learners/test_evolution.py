"""Evolution strategies against evosax, against the analytic gradient, and on problems with a known optimum."""

from dataclasses import replace

import evosax.algorithms
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evosax.core.fitness_shaping import centered_rank_fitness_shaping_fn

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, Episodes, Experience, Tape
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.probes import PROBLEMS
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.whole_episodes import play_episodes
from jaxpg.learners.evolution import EvolutionConfig, centred_ranks, make_evolution, weights_of_pairs
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import Observation, ObservationConfig
from tests.helpers import play_rounds

AS_IT_IS = Observation(EmulatorNeeds(kind="vector"), encode=lambda x: x, decode=lambda x: x)
WEIGHTS = {"w": jnp.array([[0.5, -1.0], [2.0, 0.25]]), "b": jnp.array([1.0, -0.5, 3.0])}


def _learner(config: EvolutionConfig, optimizer: optax.GradientTransformation | None = None):
    return make_evolution(config, AS_IT_IS, optimizer or optax.sgd(1.0), lambda progress: 1.0, (2,), Team.alone())


def _told(candidates, returns, tape: Tape | None = None, acted: np.ndarray | None = None):
    """One device's experience, and the games that ended."""
    nothing = np.zeros((1, 1), bool)
    episodes = Episodes(*(np.zeros(len(candidates), np.int64) for _ in Episodes._fields))._replace(
        candidate=np.asarray(candidates, np.int64), episode_return=np.asarray(returns, np.float64)
    )
    acted = ~nothing if acted is None else acted
    return [Experience(tape, nothing.astype(np.float32), nothing, nothing, nothing, acted, episodes)], episodes


def _flat(params) -> np.ndarray:
    return np.asarray(jax.flatten_util.ravel_pytree(params)[0])


def _flat_population(learner, state, ids) -> np.ndarray:
    return np.asarray(jax.vmap(lambda p: jax.flatten_util.ravel_pytree(p)[0])(learner.ask(state, jnp.asarray(ids))))


def _generation(config: EvolutionConfig, score):
    """The first generation, in which candidate weights x are worth ``score(x)``."""
    learner = _learner(config)
    return _next_generation(learner, learner.init(jax.random.key(3), WEIGHTS), score)


def _next_generation(learner, state, score):
    ids = learner.episodes_to_play(state)
    population = _flat_population(learner, state, ids)
    returns = score(population)
    after, metrics = learner.tell(state, *_told(ids, returns), 0.0)
    return state, population, returns, after, metrics


def _by_evosax(algorithm, state, population: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """The new weights by evosax, which minimises and lists the plus half first."""
    order = np.concatenate([np.arange(0, len(population), 2), np.arange(1, len(population), 2)])
    key = jax.random.key(0)
    params = algorithm.default_params
    theirs = algorithm.init(key, jnp.asarray(_flat(state.params)), params)
    theirs, _ = algorithm.tell(key, jnp.asarray(population[order]), jnp.asarray(-returns[order]), theirs, params)
    return np.asarray(theirs.mean)


def _scores(population: np.ndarray) -> np.ndarray:
    return np.round(10 * np.sin(population).sum(axis=1)).astype(np.float32)  # some are equal


@pytest.mark.parametrize("pairs", [1, 5, 40])
def test_openai_es_makes_evosaxs_step(pairs: int) -> None:
    config = EvolutionConfig(pairs=pairs, noise_std=0.3)
    state, population, returns, after, _ = _generation(config, _scores)
    algorithm = evosax.algorithms.Open_ES(
        population_size=2 * pairs,
        solution=jnp.zeros(7),
        optimizer=optax.sgd(1.0),
        std_schedule=optax.constant_schedule(0.3),
        fitness_shaping_fn=centered_rank_fitness_shaping_fn,
    )
    theirs = _by_evosax(algorithm, state, population, returns)
    np.testing.assert_allclose(_flat(after.params), theirs, rtol=1e-4, atol=1e-5)
    assert not np.allclose(theirs, _flat(state.params))


@pytest.mark.parametrize("pairs", [4, 20])
def test_ars_makes_evosaxs_step(pairs: int) -> None:
    config = EvolutionConfig(pairs=pairs, noise_std=0.3, weighting="reward_std", top_pairs=pairs // 2)
    state, population, returns, after, _ = _generation(config, lambda x: np.sin(x).sum(axis=1))
    algorithm = evosax.algorithms.ARS(
        population_size=2 * pairs,
        solution=jnp.zeros(7),
        optimizer=optax.sgd(1.0),
        std_schedule=optax.constant_schedule(0.3),
    )
    np.testing.assert_allclose(
        _flat(after.params), _by_evosax(algorithm, state, population, returns), rtol=1e-4, atol=1e-5
    )


def test_the_estimate_is_the_gradient_of_a_quadratic() -> None:
    """On a quadratic, antithetic differences are exact along each direction; many directions add up to the gradient."""
    target = np.linspace(-1, 1, 7)
    pairs, std = 4000, 0.1
    config = EvolutionConfig(pairs=pairs, noise_std=std, weighting="reward_std")
    state, _, returns, after, _ = _generation(config, lambda x: -np.square(x - target).sum(axis=1))
    step = (_flat(after.params) - _flat(state.params)) * returns.std() / (2 * std)
    gradient = -2 * (_flat(state.params) - target)
    np.testing.assert_allclose(step, gradient, atol=4 * np.linalg.norm(gradient) / np.sqrt(pairs))


def test_evolution_climbs_a_quadratic() -> None:
    target = np.linspace(-1, 1, 7)
    learner = _learner(EvolutionConfig(pairs=16, noise_std=0.05), optax.adam(0.05))
    state = learner.init(jax.random.key(3), WEIGHTS)
    for _ in range(150):
        _, _, _, state, _ = _next_generation(learner, state, lambda x: -np.square(x - target).sum(axis=1))
    np.testing.assert_allclose(_flat(state.params), target, atol=0.1)


def test_pairs_are_antithetic_and_their_noise_has_the_chosen_size() -> None:
    learner = _learner(EvolutionConfig(pairs=2000, noise_std=0.3))
    state = learner.init(jax.random.key(0), WEIGHTS)
    noise = _flat_population(learner, state, learner.episodes_to_play(state)) - _flat(WEIGHTS)
    np.testing.assert_allclose(noise[0::2], -noise[1::2], atol=1e-6)
    assert noise[0::2].std(axis=0) == pytest.approx(0.3, rel=0.1)
    assert np.abs(noise[0::2].mean(axis=0)).max() < 0.03
    correlation = np.corrcoef(noise[0::2].T) - np.eye(7)
    assert np.abs(correlation).max() < 0.1, "every weight has noise of its own"


def test_candidates_are_functions_of_their_id_and_every_generation_has_new_noise() -> None:
    learner = _learner(EvolutionConfig(pairs=3))
    state = learner.init(jax.random.key(0), WEIGHTS)
    together = _flat_population(learner, state, [0, 1, 2, 3, 4, 5])
    assert np.array_equal(_flat_population(learner, state, [4]), together[4:5])
    later, _ = learner.tell(state, *_told([*range(6)], np.zeros(6)), 0.0)
    assert learner.episodes_to_play(later).tolist() == [*range(6, 12)]
    fresh = _flat_population(learner, later, [*range(6, 12)]) - _flat(later.params)
    assert not np.isclose(fresh, together - _flat(WEIGHTS)).any()


def test_centred_ranks_by_hand() -> None:
    ranks = centred_ranks(jnp.array([3.0, 10.0, 3.0, -1.0, 7.0]))
    np.testing.assert_allclose(ranks, [-0.125, 0.5, -0.125, -0.5, 0.25])
    np.testing.assert_allclose(centred_ranks(jnp.zeros(4)), 0, atol=1e-7)


def test_returns_that_are_all_equal_move_nothing() -> None:
    for weighting in ("centred_ranks", "reward_std"):
        weights = weights_of_pairs(EvolutionConfig(pairs=3, weighting=weighting), jnp.full((3, 2), -21.0))
        np.testing.assert_allclose(weights, 0, atol=1e-6)


def test_the_best_pairs_alone_have_a_say() -> None:
    config = EvolutionConfig(pairs=4, noise_std=0.5, weighting="reward_std", top_pairs=2)
    returns = jnp.array([[1.0, 2.0], [9.0, 5.0], [3.0, 3.0], [4.0, 8.0]])
    std = np.std([9.0, 5.0, 4.0, 8.0])
    np.testing.assert_allclose(weights_of_pairs(config, returns), [0, 4 / (2 * std), 0, -4 / (2 * std)], rtol=1e-6)


def test_weight_decay_pulls_towards_zero() -> None:
    config = EvolutionConfig(pairs=2, weight_decay=0.1)
    _, _, _, after, _ = _generation(config, lambda x: np.zeros(len(x)))
    np.testing.assert_allclose(_flat(after.params), 0.9 * _flat(WEIGHTS), rtol=1e-5)


def test_a_generation_ends_with_its_last_game_and_scores_are_means() -> None:
    config = EvolutionConfig(pairs=1, episodes_per_candidate=2, noise_std=1.0)
    learner = _learner(config)
    state = learner.init(jax.random.key(0), jax.tree.map(jnp.copy, WEIGHTS))
    assert learner.episodes_to_play(state).tolist() == [0, 0, 1, 1]
    state, metrics = learner.tell(state, *_told([0, 1, 0], [1.0, 5.0, 2.0]), 0.0)
    assert learner.episodes_to_play(state).tolist() == [1]
    assert metrics["scored"] == 0.5
    assert "generation_return_mean" not in metrics
    state, metrics = learner.tell(state, *_told([1], [6.0]), 0.0)
    assert learner.episodes_to_play(state).tolist() == [2, 2, 3, 3]
    assert (metrics["generation_return_mean"], metrics["generation_return_max"]) == (3.5, 5.5)


def test_the_last_generation_is_the_last() -> None:
    learner = _learner(EvolutionConfig(pairs=1, generations=1))
    state = learner.init(jax.random.key(0), jax.tree.map(jnp.copy, WEIGHTS))
    state, _ = learner.tell(state, *_told([0, 1], [1.0, 2.0]), 0.0)
    assert learner.episodes_to_play(state).size == 0


def test_observations_are_standardised_by_all_that_was_seen() -> None:
    config = EvolutionConfig(pairs=1, normalize_observations=True)
    learner = _learner(config)
    params = {"policy": WEIGHTS, "mean": jnp.zeros(2), "std": jnp.full(2, 0.3)}
    state = learner.init(jax.random.key(0), jax.tree.map(jnp.copy, params))
    rng = np.random.default_rng(0)
    seen = []
    for part in range(3):
        observations = rng.normal([3.0, -1.0], [2.0, 0.0], size=(6, 4, 2)).astype(np.float32)
        acted = rng.random((5 - part, 4)) < 0.7  # a last part is shorter
        seen.append(observations[: len(acted)][acted])
        tape = Tape(jnp.asarray(observations), jnp.zeros((6, 4), jnp.int32), jnp.zeros((6, 4, 2)), jnp.zeros((6, 4)))
        games = ([0, 1], [1.0, 2.0]) if part == 2 else ([], [])
        before = state.params["mean"]
        state, metrics = learner.tell(state, *_told(*games, tape, acted), 0.0)
        assert metrics["input_clip_fraction"] == pytest.approx((np.abs(seen[-1]) >= 3.0).mean(), rel=1e-6)
        if part < 2:
            assert np.array_equal(state.params["mean"], before), "within a generation all play by the same moments"
    everything = np.concatenate(seen)
    np.testing.assert_allclose(state.params["mean"], everything.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(state.params["std"], [everything[:, 0].std(), 1e-4], rtol=1e-4)


def test_more_best_pairs_than_pairs_is_an_error() -> None:
    with pytest.raises(UserError, match="evolution.top_pairs: 3 is more than the 2 pairs"):
        _learner(EvolutionConfig(pairs=2, top_pairs=3))


def _evolve(env: EnvConfig, evolution: EvolutionConfig, learning_rate: float, optimum: float) -> list[float]:
    """The returns of 20 games of evolution's centre, after a generation whose candidates all reached the optimum."""
    config = Config(
        env=replace(env, num_lanes=16),
        observation=ObservationConfig(name="vector"),
        policy=PolicyConfig(name="linear"),
        evolution=evolution,
        optimizer=OptimizerConfig(learning_rate=learning_rate, schedule="constant", max_gradient_norm=0.0),
    )
    config = replace(config, run=replace(config.run, learner="evolution"))
    experiment = build(config)
    state = play_rounds(experiment, config, 100, enough=optimum)
    experiment.rollout.reset(lane_seeds(99, 0, 16))
    games = play_episodes(experiment.rollout, state.params, 20, jax.random.key(0))
    experiment.rollout.close()
    return games.episode_return.tolist()


@pytest.mark.parametrize("game", ["Bandit", "Match"])
@pytest.mark.parametrize("weighting", ["centred_ranks", "reward_std"])
def test_probes_are_solved(game: str, weighting: str) -> None:
    evolution = EvolutionConfig(pairs=8, noise_std=0.3, weighting=weighting, episodes_per_candidate=4)
    optimum = PROBLEMS[game].optimum
    assert _evolve(EnvConfig(backend="probe", game=game), evolution, 0.1, optimum) == [optimum] * 20


@pytest.mark.long
def test_cartpole_is_solved_for_good() -> None:
    """500 is the most that CartPole-v1 gives; the whole last generation reached it."""
    evolution = EvolutionConfig(pairs=8, noise_std=0.5, normalize_observations=True)
    assert _evolve(EnvConfig(game="CartPole-v1", num_threads=1), evolution, 0.3, 500.0) == [500.0] * 20


def test_before_the_first_step_evolution_gives_its_best_candidate_and_never_the_untrained_network():
    learner = _learner(EvolutionConfig(pairs=2))
    state = learner.init(jax.random.key(0), WEIGHTS)
    with pytest.raises(UserError, match="^the first generation is not over, and no candidate has played all its games"):
        learner.result(state)
    state, _ = learner.tell(state, *_told([3, 0], [7.0, 2.0]), 0.0)
    params, remark = learner.result(state)
    assert np.array_equal(_flat(params), _flat_population(learner, state, [3])[0])
    assert "candidate 3, the best of the 2 of 4" in remark
    state, metrics = learner.tell(state, *_told([1, 2], [1.0, 1.0]), 0.0)
    assert learner.result(state) == (state.params, "")
    assert learner.score in metrics
