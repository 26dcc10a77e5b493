"""Random search: the prior, the rounds, and that the winner shows its score again."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.core.types import Episodes
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.probes import PROBLEMS
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import CandidateQueue, beginning
from jaxpg.learners.random_search import RandomSearchConfig, make_random_search, rounds_of
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from tests.helpers import play_rounds

LIKE = {"w": jnp.zeros((40, 25)), "b": jnp.zeros(1000)}


def _told(candidates, returns) -> Episodes:
    return Episodes(*(np.zeros(len(candidates), np.int64) for _ in Episodes._fields))._replace(
        candidate=np.asarray(candidates, np.int64), episode_return=np.asarray(returns, np.float64)
    )


def _flat(population) -> np.ndarray:
    return np.asarray(jax.vmap(lambda p: jax.flatten_util.ravel_pytree(p)[0])(population))


def test_the_rounds_cost_the_same_and_keep_a_quarter_each() -> None:
    assert rounds_of(RandomSearchConfig()) == [(1000, 1), (64, 4), (16, 16), (4, 64), (1, 100)]
    assert rounds_of(RandomSearchConfig(candidates=9, finalists=5, episodes_per_candidate=2, winner_episodes=7)) == [
        (9, 2), (5, 4), (2, 16), (1, 7),
    ]  # fmt: skip
    assert rounds_of(RandomSearchConfig(finalists=1)) == [(1000, 1), (1, 100)]
    assert rounds_of(RandomSearchConfig(finalists=0)) == [(1000, 1)]


def test_more_finalists_than_candidates_is_an_error() -> None:
    with pytest.raises(UserError, match="random_search.finalists: 64 is more than the 10 candidates"):
        make_random_search(RandomSearchConfig(candidates=10))


@pytest.mark.parametrize(("prior", "low", "high"), [("uniform", 0.0, 2.0), ("normal", -np.inf, np.inf)])
def test_weights_follow_the_prior(prior: str, low: float, high: float) -> None:
    learner = make_random_search(RandomSearchConfig(prior=prior, prior_scale=2.0))
    weights = _flat(learner.ask(learner.init(jax.random.key(0), LIKE), jnp.arange(50)))
    assert weights.min() >= low
    assert weights.max() < high
    mean, std = (1.0, 2 / np.sqrt(12)) if prior == "uniform" else (0.0, 2.0)
    assert weights.mean() == pytest.approx(mean, abs=4 * std / np.sqrt(weights.size))
    assert weights.std() == pytest.approx(std, rel=0.02)
    assert np.abs(np.corrcoef(weights) - np.eye(50)).max() < 0.2, "every candidate is drawn anew"


def test_a_candidate_is_a_function_of_the_seed_and_its_id() -> None:
    learner = make_random_search(RandomSearchConfig())
    state = learner.init(jax.random.key(1), LIKE)
    several = _flat(learner.ask(state, jnp.array([7, 3, 7])))
    assert np.array_equal(several[0], several[2])
    assert np.array_equal(_flat(learner.ask(state, jnp.array([3]))), several[1:2])
    other = learner.init(jax.random.key(2), LIKE)
    assert not np.isclose(_flat(learner.ask(other, jnp.array([3]))), several[1:2]).all()


def test_the_best_play_again_and_the_last_word_is_theirs() -> None:
    config = RandomSearchConfig(candidates=6, finalists=3, finalist_episodes=2, winner_episodes=2)
    learner = make_random_search(config)
    state = learner.init(jax.random.key(0), LIKE)
    assert learner.episodes_to_play(state).tolist() == [0, 1, 2, 3, 4, 5]
    state, metrics = learner.tell(state, [], _told([5, 0, 3], [10.0, 1.0, 7.0]), 0.0)
    assert learner.episodes_to_play(state).tolist() == [1, 2, 4], "a game that was played is not asked for again"
    assert (metrics["scored"], metrics["round"]) == (0.5, 0)
    assert "best_return" not in metrics
    state, metrics = learner.tell(state, [], _told([1, 2, 4], [7.0, 0.0, 90.0]), 0.0)  # 4 was lucky
    assert (metrics["best_candidate"], metrics["best_search_return"], metrics["best_return"]) == (4, 90, 90)
    assert learner.episodes_to_play(state).tolist() == [4, 4, 5, 5, 1, 1], "of equals the first"
    state, metrics = learner.tell(state, [], _told([4, 4, 5, 5, 1, 1], [3.0, 5.0, 20.0, 12.0, 6.0, 6.0]), 0.0)
    assert (metrics["best_candidate"], metrics["best_search_return"], metrics["best_return"]) == (5, 10, 16)
    assert np.array_equal(
        _flat(jax.tree.map(lambda x: x[None], state.params)), _flat(learner.ask(state, jnp.array([5])))
    )
    assert learner.episodes_to_play(state).tolist() == [5, 5]
    state, metrics = learner.tell(state, [], _told([5, 5], [8.0, 9.0]), 0.0)
    assert (metrics["best_candidate"], metrics["best_search_return"], metrics["best_return"]) == (5, 10, 8.5)
    assert learner.episodes_to_play(state).size == 0
    np.testing.assert_allclose(state.search_returns, [1, 7, 0, 7, 90, 10])


def _search(env: EnvConfig, search: RandomSearchConfig, num_lanes: int) -> tuple[Config, Experiment]:
    config = Config(
        env=replace(env, num_lanes=num_lanes),
        observation=ObservationConfig(name="vector"),
        policy=PolicyConfig(name="linear"),
        random_search=search,
    )
    config = replace(config, run=replace(config.run, learner="random_search"))
    return config, build(config)


def test_a_probe_is_solved() -> None:
    search = RandomSearchConfig(candidates=40, prior="normal", finalists=16, finalist_episodes=8, winner_episodes=30)
    config, experiment = _search(EnvConfig(backend="probe", game="Match"), search, 8)
    state = play_rounds(experiment, config, len(rounds_of(search)))
    assert state.best_return == PROBLEMS["Match"].optimum


@pytest.mark.parametrize("num_pools", [1, 2])
def test_a_candidate_replays_its_return_from_its_id_and_its_lanes_seed(num_pools: int) -> None:
    """The first games of a queue start with the lanes' seeds; one candidate alone in that lane plays the same game."""
    search = RandomSearchConfig(candidates=12, prior="normal", finalists=0)
    _, experiment = _search(EnvConfig(game="CartPole-v1", num_pools=num_pools, num_threads=1), search, 4)
    learner, rollout = experiment.learner, experiment.rollout
    state = learner.init(jax.random.key(5), experiment.policy.init(jax.random.key(0)))
    seeds = lane_seeds(1, 0, 4)

    def play(games: np.ndarray) -> Episodes:
        rollout.reset(seeds)
        queue = CandidateQueue(beginning(games, 4, 1), lambda ids: learner.ask(state, ids))
        experience, _ = rollout.collect(queue, 2000, jax.random.key(0))
        assert queue.finished
        return experience.episodes

    searched, again = play(learner.episodes_to_play(state)), play(learner.episodes_to_play(state))
    assert all(np.array_equal(a, b) for a, b in zip(searched, again, strict=True)), "same seed, same returns"
    assert sorted(searched.candidate.tolist()) == list(range(12))
    assert len(set(searched.episode_return.tolist())) > 4
    for candidate in range(4):
        mine = searched.candidate == candidate
        assert searched.lane[mine] == candidate
        alone = play(np.full(4, candidate))  # one member for all lanes
        assert alone.episode_return[alone.lane == candidate] == searched.episode_return[mine]
    rollout.close()


def test_a_search_that_is_not_over_gives_the_best_candidate_with_all_its_games_and_says_so() -> None:
    config = RandomSearchConfig(candidates=4, episodes_per_candidate=2, finalists=2, winner_episodes=1)
    learner = make_random_search(config)
    state = learner.init(jax.random.key(0), LIKE)
    state, _ = learner.tell(state, [], _told([1, 2, 2, 3, 0], [50.0, 1.0, 2.0, 9.0, 8.0]), 0.0)
    with pytest.raises(UserError, match="^the search is not over, and no candidate has played all its games yet; "):
        learner.result(state._replace(num_games=state.num_games.at[2].set(1)))
    params, remark = learner.result(state)
    assert np.array_equal(_flat({k: x[None] for k, x in params.items()}), _flat(learner.ask(state, jnp.array([2]))))
    assert remark == (
        "the search is not over; this is candidate 2, the best of the 1 of 4 that have played all their games, "
        "with 1.5 a game"
    )
    state, metrics = learner.tell(state, [], _told([1, 3, 0], [50.0, 9.0, 8.0]), 0.0)
    assert learner.result(state) == (
        state.params,
        "the search is not over; this is the best candidate after 1 of 3 rounds",
    )
    assert learner.report(metrics).endswith(" in the search; the search is not over")
    state, _ = learner.tell(state, [], _told([1, 3] * 4, [3.0, 5.0] * 4), 0.0)
    state, metrics = learner.tell(state, [], _told([3], [4.0]), 0.0)
    assert learner.result(state) == (state.params, "")
    assert learner.report(metrics).endswith("4.0 a game over 1 fresh games")
