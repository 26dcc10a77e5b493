"""Returns against rlax, against hand-computed numbers, and the rules that end the credit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxpg.learners.returns import credit, lambda_returns, total_minus_step, transformed

T = 12


def _stream(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=T).astype(np.float32)
    discount = (0.9 * (rng.uniform(size=T) > 0.2)).astype(np.float32)
    value = rng.normal(size=T + 1).astype(np.float32)
    return reward, discount, value


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_lambda_returns_are_rlaxs(lambda_: float) -> None:
    reward, discount, value = _stream()
    ours = lambda_returns(reward, discount, value, jnp.full(T, lambda_))
    np.testing.assert_allclose(ours, rlax.lambda_returns(reward, discount, value[1:], lambda_), rtol=1e-5, atol=1e-6)


def test_with_lambda_one_and_no_value_they_are_discounted_returns() -> None:
    reward, discount, _ = _stream()
    ours = lambda_returns(reward, discount, jnp.zeros(T + 1), jnp.ones(T))
    np.testing.assert_allclose(ours, rlax.discounted_returns(reward, discount, jnp.zeros(T)), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    ours = lambda_returns(
        jnp.array([1.0, 2.0, 3.0]), jnp.full(3, 0.5), jnp.array([10.0, 20.0, 30.0, 40.0]), jnp.full(3, 0.5)
    )
    g2 = 3 + 0.5 * 40  # the last one bootstraps whatever lambda is
    g1 = 2 + 0.5 * (0.5 * 30 + 0.5 * g2)
    g0 = 1 + 0.5 * (0.5 * 20 + 0.5 * g1)
    np.testing.assert_allclose(ours, [g0, g1, g2])


def test_lambda_zero_is_the_one_step_target() -> None:
    reward, discount, value = _stream()
    np.testing.assert_allclose(
        lambda_returns(reward, discount, value, jnp.zeros(T)), reward + discount * value[1:], rtol=1e-6
    )


FLAGS = {name: np.zeros(4, bool) for name in ("terminated", "truncated", "life_lost")} | {"acted": np.ones(4, bool)}
OPTIONS = {"discount": 0.9, "lambda_": 0.5, "cut_at_reward": False, "cut_at_life_loss": False}


def _credit(reward: list[float], **changes: object) -> tuple[list[float], list[float]]:
    arguments = {**FLAGS, **OPTIONS, **changes}
    discounts, lambdas = credit(jnp.array(reward), **arguments)
    return np.asarray(discounts, float).round(3).tolist(), np.asarray(lambdas, float).round(3).tolist()


AT_1 = np.array([False, True, False, False])


@pytest.mark.parametrize(
    ("reward", "changes", "discounts", "lambdas"),
    [
        ([0, 1, 0, 0], {}, [0.9] * 4, [0.5] * 4),
        ([0, 0, 0, 0], {"terminated": AT_1}, [0.9, 0, 0.9, 0.9], [0.5] * 4),
        ([0, 0, 0, 0], {"acted": ~AT_1}, [0.9, 0, 0.9, 0.9], [0.5] * 4),
        ([0, 0, 0, 0], {"truncated": AT_1}, [0.9] * 4, [0.5, 0, 0.5, 0.5]),
        ([0, -1, 0, 2], {"cut_at_reward": True}, [0.9, 0, 0.9, 0], [0.5] * 4),
        ([0, 0, 0, 0], {"life_lost": AT_1}, [0.9] * 4, [0.5] * 4),
        ([0, 0, 0, 0], {"life_lost": AT_1, "cut_at_life_loss": True}, [0.9, 0, 0.9, 0.9], [0.5] * 4),
    ],
    ids=["nothing ends", "termination", "autoreset", "truncation", "reward", "life kept", "life cut"],
)
def test_where_the_credit_ends(reward, changes, discounts, lambdas) -> None:
    assert _credit(reward, **changes) == (discounts, lambdas)


def test_truncation_takes_the_value_of_the_last_observation_and_nothing_after() -> None:
    truncated, acted = AT_1, np.array([True, True, False, True])
    discounts, lambdas = credit(
        jnp.array([1.0, 1.0, 0.0, 100.0]),
        **{**FLAGS, **OPTIONS, "truncated": truncated, "acted": acted, "lambda_": 1.0},
    )
    value = jnp.array([0.0, 0.0, 7.0, 0.0, 0.0])  # 7: of the observation in which the game was cut off
    returns = lambda_returns(jnp.array([1.0, 1.0, 0.0, 100.0]), discounts, value, lambdas)
    np.testing.assert_allclose(returns[:2], [1 + 0.9 * (1 + 0.9 * 7), 1 + 0.9 * 7], rtol=1e-6)


def test_a_point_restarts_the_return_as_in_the_notebook() -> None:
    reward = np.random.default_rng(3).choice([0, 0, 0, 0, 1, -1], size=200).astype(np.float32)
    flags = {name: np.resize(flag, 200) for name, flag in FLAGS.items()}
    discounts, lambdas = credit(reward, **flags, discount=0.99, lambda_=1.0, cut_at_reward=True, cut_at_life_loss=False)
    returns = lambda_returns(reward, discounts, jnp.zeros(201), lambdas)
    running, by_loop = 0.0, np.zeros(200)
    for t in reversed(range(200)):
        if reward[t] != 0:
            running = 0.0
        running = running * 0.99 + reward[t]
        by_loop[t] = running
    np.testing.assert_allclose(returns, by_loop, rtol=1e-5)


def test_lanes_do_not_leak_into_each_other() -> None:
    streams = [_stream(seed) for seed in range(3)]
    together = jax.vmap(lambda_returns, in_axes=(1, 1, 1, 1), out_axes=1)(
        *(jnp.stack(column, axis=1) for column in zip(*streams, strict=True)), jnp.full((T, 3), 0.8)
    )
    for lane, stream in enumerate(streams):
        np.testing.assert_allclose(together[:, lane], lambda_returns(*stream, jnp.full(T, 0.8)), rtol=1e-6)


def test_the_beginners_credit_by_hand_for_the_games_that_are_whole() -> None:
    #         a game that began before | a game of three steps | a game that goes on
    reward = [5.0, 7.0, 0.0, 1.0, 10.0, 4.0, 0.0, 2.0, 2.0]
    acted = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1], bool)
    ended = np.array([0, 1, 0, 0, 0, 1, 0, 0, 0], bool)
    ours, weight = total_minus_step(jnp.array(reward), ended, acted)
    assert weight.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert ours[3:6].tolist() == [15.0, 14.0, 13.0], "1 + 10 + 4, minus the step's number"


def test_the_beginners_credit_against_a_loop_over_games() -> None:
    rng = np.random.default_rng(5)
    acted = np.ones(200, bool)
    ended = np.zeros(200, bool)
    for t in range(7, 190, 13):
        ended[t], acted[t + 1] = True, False
    reward = np.where(acted, rng.normal(size=200), 0).astype(np.float32)
    ours, weight = total_minus_step(reward, ended, acted)
    expected = np.zeros(200)
    known = np.zeros(200)
    ends = np.flatnonzero(ended)
    for end, following in itertools.pairwise(ends):
        game = slice(end + 2, following + 1)
        expected[game] = reward[game].sum() - np.arange(following - end - 1)
        known[game] = 1
    np.testing.assert_array_equal(weight, known)
    np.testing.assert_allclose(ours * weight, expected, rtol=1e-4, atol=1e-4)


def test_what_the_learner_sees_of_a_reward() -> None:
    rewards = jnp.array([-15.0, -1.0, 0.0, 0.5, 3.0, 1599.0])
    assert transformed(rewards, "none").tolist() == rewards.tolist()
    assert transformed(rewards, "clip").tolist() == [-1.0, -1.0, 0.0, 0.5, 1.0, 1.0]
    root = [-3.0, 1 - 2**0.5, 0.0, 1.5**0.5 - 1, 1.0, 39.0]
    np.testing.assert_allclose(transformed(rewards, "root"), root, rtol=1e-6)
