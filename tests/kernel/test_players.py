"""The queue of candidates, alone and inside the kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.players import IDLE, CandidateQueue, beginning, joined
from tests.helpers import counted_compilations, make_rollout


def _ask(ids: jax.Array):
    """Weights that say whose they are."""
    return {"w": jnp.ones((1, 2)) * ids[:, None]}


def test_a_free_lane_takes_the_next_game() -> None:
    queue = CandidateQueue(beginning(np.array([10, 11, 12, 13, 14]), 3, 1), _ask)
    assert queue.playing.tolist() == [10, 11, 12]
    queue.take_next(np.array([1]))
    assert queue.playing.tolist() == [10, 13, 12]
    assert np.array_equal(queue.population["w"], [[10, 10], [13, 13], [12, 12]])
    queue.take_next(np.array([0, 1, 2]))
    assert queue.playing.tolist() == [14, IDLE, IDLE]
    assert not queue.finished
    queue.take_next(np.array([0]))
    assert queue.finished


def test_fewer_games_than_lanes() -> None:
    queue = CandidateQueue(beginning(np.array([4, 5]), 4, 1), _ask)
    assert queue.playing.tolist() == [4, 5, IDLE, IDLE]
    assert CandidateQueue(beginning(np.zeros(0, int), 4, 1), _ask).finished


def test_one_candidate_is_one_member() -> None:
    queue = CandidateQueue(beginning(np.full(5, 6), 4, 1), _ask)
    assert np.array_equal(queue.population["w"], [[6, 6]])
    queue.take_next(np.arange(4))
    assert np.array_equal(queue.population["w"], [[6, 6]])
    assert queue.playing.tolist() == [6, IDLE, IDLE, IDLE]


@pytest.mark.parametrize("games", [[10, 11, 12, 13, 14], [6] * 5, [4]])
@pytest.mark.parametrize("ended", [[], [1], [0, 1, 2], [2, 1]])
def test_a_queue_is_taken_up_where_it_was(games: list[int], ended: list[int]) -> None:
    queue = CandidateQueue(beginning(np.array(games), 3, 1), _ask)
    queue.take_next(np.array(ended, int))
    snapshot = queue.snapshot()
    again = CandidateQueue(snapshot, _ask)
    assert snapshot.is_of(np.array([game for game in [*queue.playing, *games[3 + len(ended) :]] if game != IDLE]))
    assert not snapshot.is_of(np.array([*games, 99]))
    for lanes in ([], [0], [2, 1], [0, 1, 2]):
        queue.take_next(np.array(lanes, int))
        again.take_next(np.array(lanes, int))
        assert again.playing.tolist() == queue.playing.tolist()
        assert again.finished == queue.finished
        playing = queue.playing != IDLE if len(queue.population["w"]) > 1 else slice(int(queue.finished), 1)
        assert np.array_equal(again.population["w"][playing], queue.population["w"][playing])


def test_groups_of_lanes_have_games_of_their_own() -> None:
    whole = beginning(np.arange(10), 4, 2)
    assert [games.tolist() for games in whole.waiting] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    queue = CandidateQueue(whole, _ask)
    assert queue.playing.tolist() == [0, 2, 1, 3]
    queue.take_next(np.array([3, 0, 1]))
    assert queue.playing.tolist() == [4, 6, 1, 5]
    queue.take_next(np.array([0]))
    assert queue.playing.tolist() == [8, 6, 1, 5]
    queue.take_next(np.array([0, 1]))
    assert queue.playing.tolist() == [IDLE, IDLE, 1, 5], "the other group's games are not theirs"
    assert not queue.finished


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_divided_queue_is_the_whole_one(parts: int) -> None:
    rng = np.random.default_rng(0)
    queue = CandidateQueue(beginning(rng.permutation(40), 8, 4), _ask)
    queue.take_next(np.array([0, 1, 1, 5]))
    divided = [CandidateQueue(part, _ask) for part in queue.snapshot().split(parts)]
    for _ in range(12):
        ended = np.flatnonzero(rng.random(8) < 0.6)
        queue.take_next(ended)
        for part, own in enumerate(divided):
            first = part * 8 // parts
            own.take_next(ended[(ended >= first) & (ended < first + 8 // parts)] - first)
        again = joined([own.snapshot() for own in divided])
        snapshot = queue.snapshot()
        assert again.playing.tolist() == snapshot.playing.tolist()
        assert [games.tolist() for games in again.waiting] == [games.tolist() for games in snapshot.waiting]


@pytest.mark.parametrize("num_pools", [1, 2, 4])
def test_every_game_of_the_queue_is_played_once_and_by_its_own_candidate(num_pools: int) -> None:
    """In CartPole who always pushes right falls within 11 agent steps; who pushes against the fall does not."""
    rollout, policy = make_rollout(EnvConfig(game="CartPole-v1", num_threads=1), 4, num_pools=num_pools, value=False,
                                   keeps_tape=False, greedy=True)  # fmt: skip
    good = jax.tree.map(jnp.zeros_like, policy.init(jax.random.key(0)))
    bad = jax.tree.map(jnp.copy, good)
    bad["heads"]["logits"]["bias"] = jnp.array([0.0, 1.0])
    fall = jnp.array([[0, 0], [0, 0], [1, -1], [1, -1]])
    good["layers"][0]["kernel"] = good["layers"][0]["kernel"].at[:, :2].set(fall)
    good["heads"]["logits"]["kernel"] = good["heads"]["logits"]["kernel"].at[:2].set(jnp.array([[0, 1], [1, 0]]))

    def ask(ids: jax.Array):
        return jax.tree.map(lambda a, b: jnp.where(ids[0] % 3 == 0, a, b)[None], good, bad)

    games = np.array([0, 1, 2, 3, 4, 5, 5, 7, 8, 9])
    rollout.reset(lane_seeds(1, 0, 4))
    queue = CandidateQueue(beginning(games, 4, 1), ask)
    experience, _ = rollout.collect(queue, 3000, jax.random.key(0))
    rollout.close()
    episodes = experience.episodes
    assert queue.finished
    assert sorted(episodes.candidate.tolist()) == games.tolist()
    is_good = episodes.candidate % 3 == 0
    assert (episodes.episode_return[is_good] > 60).all()
    assert (episodes.episode_return[~is_good] <= 11).all()
    assert np.array_equal(episodes.episode_return, episodes.length_agent_steps)
    assert experience.acted.sum() == episodes.length_agent_steps.sum(), "only games of the queue have weight"
    assert len(experience.acted) <= episodes.step.max() + 2, "the kernel stops after the last game"
    last_start = (episodes.step - episodes.length_agent_steps).max()
    assert last_start > 20
    idle = ~experience.acted[:last_start]
    assert idle.sum() <= len(games), "before the queue is empty a lane rests for an autoreset step only"


def test_rounds_do_not_compile_anew() -> None:
    rollout, policy = make_rollout(EnvConfig(game="CartPole-v1", num_threads=1), 4, value=False, keeps_tape=False)
    draw = jax.jit(jax.vmap(lambda i: policy.init(jax.random.fold_in(jax.random.key(0), i))))

    def play_round(first: int) -> None:
        rollout.reset(lane_seeds(1, first, 4))
        queue = CandidateQueue(beginning(np.arange(first, first + 9), 4, 1), draw)
        while not queue.finished:
            rollout.collect(queue, 32, jax.random.key(first))

    play_round(0)
    with counted_compilations() as compiled:
        play_round(9)
        play_round(18)
    rollout.close()
    assert not compiled
