"""The kernel: lanes, members, keys, pools and the tape."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.envs.config import EnvConfig
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.act import gumbel_noise, make_act
from jaxpg.kernel.players import FixedPopulation
from jaxpg.kernel.rollout import NOT_SENT, Rollout
from jaxpg.kernel.whole_episodes import play_episodes
from jaxpg.policies.observations import ObservationConfig, make_observation
from tests.helpers import SMALL, counted_compilations, make_rollout

PONG = EnvConfig(game="Pong", actions=(2, 3))
PROBE = EnvConfig(backend="probe", game="Count")
VECTOR = ObservationConfig(name="vector")


def _population(policy, num_members: int):
    return jax.vmap(policy.init)(jax.random.split(jax.random.key(0), num_members))


def _equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _played(rollout: Rollout, population, num_agent_steps: int, times: int = 2):
    rollout.reset(lane_seeds(1, 0, rollout.num_lanes))
    results = []
    for i in range(times):
        experience, _ = rollout.collect(
            FixedPopulation(population, rollout.num_lanes), num_agent_steps, jax.random.fold_in(jax.random.key(7), i)
        )
        results.append(jax.device_get(experience))
    rollout.close()
    return results


def test_two_pools_in_flight_play_exactly_what_one_pool_plays() -> None:
    one, policy = make_rollout(PONG, 4)
    two, _ = make_rollout(PONG, 4, num_pools=2)
    population = _population(policy, 1)
    for a, b in zip(_played(one, population, 30), _played(two, population, 30), strict=True):
        for ours, theirs in ((a.tape.logits, b.tape.logits), (a.tape.value, b.tape.value)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)  # a product's rounding depends on its rows
        exact = [x._replace(tape=(x.tape.observation, x.tape.action)) for x in (a, b)]
        assert _equal(*exact)


def test_a_member_alone_plays_as_it_plays_inside_a_population() -> None:
    many, policy = make_rollout(PONG, 4)
    alone, _ = make_rollout(PONG, 4)
    population = _population(policy, 2)
    together = _played(many, population, 25)
    for member, lanes in ((0, slice(0, 2)), (1, slice(2, 4))):
        single = _played(make_rollout(PONG, 4)[0], jax.tree.map(lambda x, m=member: x[m : m + 1], population), 25)
        for a, b in zip(together, single, strict=True):
            assert np.array_equal(a.tape.action[:, lanes], b.tape.action[:, lanes])
            np.testing.assert_allclose(a.tape.logits[:, lanes], b.tape.logits[:, lanes], rtol=1e-4, atol=1e-6)
    alone.close()
    assert not np.array_equal(together[0].tape.action[:, :2], together[0].tape.action[:, 2:])


def test_one_function_acts_for_every_split_into_members() -> None:
    """P=1, E=8; P=8, E=1; and between: one jitted function, one compilation a shape."""
    rollout, policy = make_rollout(PROBE, 8)
    rollout.close()
    act = make_act(policy, make_observation(VECTOR), (0,), 8)
    raw = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    splits = [1, 8, 4, 2, 8, 1]
    apply = jax.jit(policy.apply)
    for num_members in splits:
        population = _population(policy, num_members)
        actions, tape = act(population, raw, None, None, 0, 0)
        members = jax.tree.map(np.asarray, population)
        assert tape is None
        for lane in range(8):
            params = jax.tree.map(lambda x, m=lane * num_members // 8: x[m], members)
            assert actions[lane] == jnp.argmax(apply(params, raw[lane])[0])
    assert act._cache_size() == len(set(splits))


def test_a_population_of_one_costs_what_no_population_costs() -> None:
    rollout, policy = make_rollout(PONG, 1, hidden=64)
    rollout.close()
    observation = make_observation(SMALL)
    raw = jnp.zeros((16, 2, 35, 40), jnp.uint8)
    population = _population(policy, 1)

    def bare(params, raw, noise):
        def one(x, noise):
            logits, value = policy.apply(params, observation.decode(observation.encode(x)))
            action = jnp.argmax(logits + noise)
            return action, jax.nn.log_softmax(logits)[action], value

        return jax.vmap(one)(raw, noise[0])

    act = make_act(policy, observation, (0, 1, 2), 16)
    noise = gumbel_noise(jax.random.key(0), 1, 16, 2)
    ours = act.lower(population, raw, noise, None, 0, 0).compile()
    theirs = jax.jit(bare).lower(jax.tree.map(lambda x: x[0], population), raw, noise).compile()
    assert ours.cost_analysis()["flops"] <= 1.01 * theirs.cost_analysis()["flops"]
    products = [line for line in ours.as_text().splitlines() if " dot(" in line or "__onednn$matmul" in line]
    assert products, "the compiled text names its matrix products"
    assert not any("batch_dims" in line for line in products), "P = 1 left a batched product behind"


def test_sampling_follows_the_policy_and_greedy_takes_the_most_probable() -> None:
    rollout, policy = make_rollout(PROBE, 2)
    rollout.close()
    population = jax.tree.map(lambda x: 0 * x, _population(policy, 1))
    population["heads"]["logits"]["bias"] = jnp.log(jnp.array([[0.2, 0.8]]))
    raw = np.zeros((4000, 2), np.float32)
    sampled, *_ = make_act(policy, make_observation(VECTOR), (0,), 4000)(
        population, raw, gumbel_noise(jax.random.key(1), 1, 4000, 2), None, 0, 0
    )
    greedy, *_ = make_act(policy, make_observation(VECTOR), (0,), 4000)(population, raw, None, None, 0, 0)
    assert np.mean(sampled) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 4000))
    assert np.asarray(greedy).all()


def test_noise_samples_as_jax_does_with_a_key_a_row_and_lane() -> None:
    key, logits = jax.random.key(3), jnp.array([0.3, -1.0, 2.0])
    noise = gumbel_noise(key, 5, 7, 3)
    for row in range(5):
        for lane in range(7):
            own_key = jax.random.fold_in(jax.random.fold_in(key, row), lane)
            assert jnp.argmax(logits + noise[row, lane]) == jax.random.categorical(own_key, logits)


def test_every_lane_and_row_and_key_draws_for_itself() -> None:
    rollout, policy = make_rollout(PROBE, 2)
    rollout.close()
    act = make_act(policy, make_observation(VECTOR), (0,), 64)
    uniform = jax.tree.map(jnp.zeros_like, _population(policy, 1))
    raw = np.zeros((64, 2), np.float32)
    noise = [gumbel_noise(jax.random.key(key), 32, 64, 2) for key in range(4)]
    drawn = np.array([act(uniform, raw, noise[key], None, row, 0)[0] for key in range(4) for row in range(32)]).reshape(
        4, 32, 64
    )
    assert abs(drawn.mean() - 0.5) < 0.02
    for axis in range(3):
        alike = (drawn == np.roll(drawn, 1, axis)).mean()
        assert abs(alike - 0.5) < 0.03, "two neighbours agree half of the time"


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_what_is_kept_belongs_together(num_lanes: int) -> None:
    rollout, policy = make_rollout(PROBE, num_lanes)
    population = _population(policy, 1)
    first, second = _played(rollout, population, 8)
    # Count pays 1, 2, 3, 4, 5, then ignores an action: the streams go on from rollout to rollout
    rewards = np.concatenate([first.reward, second.reward])
    assert rewards[:, 0].tolist() == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert np.array_equal(np.concatenate([first.acted, second.acted])[:, 0], rewards[:, 0] > 0)
    np.testing.assert_array_equal(first.tape.observation[8], second.tape.observation[0])
    params = jax.tree.map(lambda x: x[0], population)
    for t in range(9):
        logits, value = policy.apply(params, jnp.asarray(first.tape.observation[t, 0]))
        np.testing.assert_allclose(first.tape.value[t, 0], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(first.tape.logits[t, 0], logits, rtol=1e-4)
    time_left = first.tape.observation[:, 0, 1]
    np.testing.assert_allclose(time_left, [1, 0.8, 0.6, 0.4, 0.2, 0, 1, 0.8, 0.6], atol=1e-6)


def test_episodes_are_whole_games_with_their_step_lane_return_and_length() -> None:
    rollout, policy = make_rollout(PROBE, 3, num_pools=3)
    first, second = _played(rollout, _population(policy, 1), 8)
    assert first.episodes.step.tolist() == [4, 4, 4]
    assert first.episodes.lane.tolist() == [0, 1, 2]
    assert second.episodes.step.tolist() == [2, 2, 2], "agent step 10 of the stream"
    for episodes in (first.episodes, second.episodes):
        assert episodes.episode_return.tolist() == [15.0] * 3
        assert episodes.length_agent_steps.tolist() == [5] * 3


def test_games_cut_short_by_a_reset_are_not_reported() -> None:
    rollout, policy = make_rollout(PROBE, 2)
    population = _population(policy, 1)
    rollout.reset(lane_seeds(1, 0, 2))
    rollout.collect(FixedPopulation(population, rollout.num_lanes), 3, jax.random.key(0))
    rollout.reset(lane_seeds(1, 1, 2))
    experience, _ = rollout.collect(FixedPopulation(population, rollout.num_lanes), 5, jax.random.key(0))
    assert experience.episodes.episode_return.tolist() == [15.0, 15.0]
    rollout.close()


def test_lane_seeds_depend_on_run_segment_and_lane_alone() -> None:
    seeds = lane_seeds(3, 2, 100)
    assert np.array_equal(seeds[:10], lane_seeds(3, 2, 10))
    others = np.concatenate([seeds, lane_seeds(3, 3, 100), lane_seeds(4, 2, 100)])
    assert len(set(others.tolist())) == 300
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


def test_a_rollout_without_tape_keeps_nothing_and_plays_the_same() -> None:
    with_tape, policy = make_rollout(PONG, 2)
    without, _ = make_rollout(PONG, 2, keeps_tape=False)
    population = _population(policy, 1)
    kept, bare = _played(with_tape, population, 20), _played(without, population, 20)
    assert all(experience.tape is None for experience in bare)
    assert all(np.array_equal(a.reward, b.reward) for a, b in zip(kept, bare, strict=True))


def test_playing_games_counts_the_first_of_every_lane() -> None:
    config = replace(EnvConfig(), game="CartPole-v1")
    rollout, policy = make_rollout(config, 4, keeps_tape=False, greedy=True)
    rollout.reset(lane_seeds(0, 0, 4))
    episodes = play_episodes(rollout, policy.init(jax.random.key(0)), 12, jax.random.key(0))
    rollout.close()
    assert sorted(episodes.lane.tolist()) == sorted([0, 1, 2, 3] * 3)
    assert np.array_equal(episodes.episode_return, episodes.length_agent_steps), "CartPole pays 1 a step"
    for lane in range(4):
        mine = episodes.lane == lane
        ends = np.cumsum(episodes.length_agent_steps[mine] + 1) - 2  # one autoreset step between games
        assert episodes.step[mine].tolist() == ends.tolist(), "no game between them was left out"


def test_a_pool_rests_when_nobody_will_play_in_it_any_more() -> None:
    rollout, policy = make_rollout(PROBE, 4, num_pools=2, keeps_tape=False)
    sent = [0, 0]
    for i, pool in enumerate(rollout.pools):

        def send(actions, i=i, send=pool.send) -> None:
            sent[i] += 1
            send(actions)

        pool.send = send
    rollout.reset(lane_seeds(0, 0, 4))
    episodes = play_episodes(rollout, policy.init(jax.random.key(0)), 6, jax.random.key(0))
    assert sorted(episodes.lane.tolist()) == [0, 0, 1, 1, 2, 3]
    assert episodes.episode_return.tolist() == [15.0] * 6
    assert sent == [11, 5], "two games of five agent steps with an autoreset between them, and one game"


def test_games_whose_pools_came_to_rest_are_replayed_in_other_pools() -> None:
    rests, policy = make_rollout(PROBE, 4, num_pools=2, keeps_tape=False)
    seeds = lane_seeds(0, 0, 4)
    rests.reset(seeds)
    play_episodes(rests, policy.init(jax.random.key(0)), 5, jax.random.key(0))
    actions = rests.actions
    assert (actions[5:, 2:] == NOT_SENT).all()
    assert (actions[:11, :2] != NOT_SENT).all()
    for num_pools in (1, 4):
        other, _ = make_rollout(PROBE, 4, num_pools=num_pools, keeps_tape=False)
        assert sum(other.replay(seeds, actions)) == actions.size
        assert other.first_episodes_are_over.all()
        assert np.array_equal(other.actions, actions)


def test_after_the_first_rollout_nothing_compiles() -> None:
    rollout, policy = make_rollout(PONG, 2)
    population = _population(policy, 1)
    rollout.reset(lane_seeds(1, 0, 2))
    collect = partial(rollout.collect, FixedPopulation(population, 2), 6)
    collect(jax.random.key(0))
    with counted_compilations() as compiled:
        collect(jax.random.key(1))
        collect(jax.random.key(2))
    rollout.close()
    assert compiled == []


@pytest.mark.parametrize(("env", "num_pools"), [(PONG, 1), (PONG, 2), (replace(PONG, backend="ale"), 1)])
def test_replayed_games_go_on_as_if_they_had_not_been_interrupted(env: EnvConfig, num_pools: int) -> None:
    rollout, policy = make_rollout(env, 4, num_pools=num_pools)
    population, seeds = _population(policy, 1), lane_seeds(1, 0, 4)
    rollout.reset(seeds)
    rollout.collect(FixedPopulation(population, rollout.num_lanes), 20, jax.random.key(1))
    actions = rollout.actions
    assert actions.shape == (20, 4)
    assert rollout.agent_steps_since_reset == 20
    expected = jax.device_get(rollout.collect(FixedPopulation(population, rollout.num_lanes), 15, jax.random.key(2))[0])
    rollout.close()
    other, _ = make_rollout(env, 4, num_pools=num_pools)
    assert list(other.replay(seeds, actions)) == [4] * 20
    assert np.array_equal(other.actions, actions)
    assert _equal(
        jax.device_get(other.collect(FixedPopulation(population, other.num_lanes), 15, jax.random.key(2))[0]), expected
    )
    other.close()
    wrong, _ = make_rollout(env, 4, num_pools=num_pools)
    list(wrong.replay(seeds, 1 - actions))
    assert not _equal(
        jax.device_get(wrong.collect(FixedPopulation(population, wrong.num_lanes), 15, jax.random.key(2))[0]), expected
    )
    wrong.close()


def test_a_game_that_was_interrupted_has_its_whole_return() -> None:
    """Count gives a reward of 1 at each agent step, ten to a game."""
    rollout, policy = make_rollout(PROBE, 2)
    population, seeds = _population(policy, 1), lane_seeds(1, 0, 2)
    rollout.reset(seeds)
    rollout.collect(FixedPopulation(population, rollout.num_lanes), 7, jax.random.key(1))
    actions = rollout.actions
    expected = rollout.collect(FixedPopulation(population, rollout.num_lanes), 30, jax.random.key(2))[0].episodes
    assert expected.lane.size > 0
    list(rollout.replay(seeds, actions))
    assert _equal(
        rollout.collect(FixedPopulation(population, rollout.num_lanes), 30, jax.random.key(2))[0].episodes, expected
    )


def test_starting_many_emulators_is_said(monkeypatch, capsys):
    monkeypatch.setattr("jaxpg.kernel.rollout.LANES_WORTH_A_WORD", 4)
    for num_lanes in (2, 4):
        rollout, _ = make_rollout(EnvConfig(backend="probe", game="Count"), num_lanes, num_pools=2)
        rollout.reset(np.arange(num_lanes))
        rollout.close()
    said = ["jaxpg: starting 4 emulators", "jaxpg: starting 4 emulators, 2 are there"]
    assert capsys.readouterr().out.splitlines() == said
