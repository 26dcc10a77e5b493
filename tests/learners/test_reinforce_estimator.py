"""REINFORCE's estimator against a gradient written by hand for a softmax-linear policy, and what each setting does."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, Episodes, Experience, PolicyFunctions, Tape
from jaxpg.learners.minibatches import minibatches
from jaxpg.learners.reinforce import make_reinforce
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import with_normalizer
from jaxpg.policies.observations import Observation

STEPS, LANES, FEATURES, ACTIONS = 4, 3, 5, 3


def _linear_policy(has_value: bool) -> PolicyFunctions:
    def apply(params, x):
        return x @ params["w"], (x @ params["v"] if has_value else jnp.zeros(x.shape[:-1]))

    def init(key):
        del key
        params = {"w": jnp.zeros((FEATURES, ACTIONS))}
        return params | ({"v": jnp.zeros(FEATURES)} if has_value else {})

    return PolicyFunctions(init, apply, has_value)


def _as_it_is() -> Observation:
    return Observation(EmulatorNeeds(kind="vector"), encode=lambda x: x, decode=lambda x: x)


def _experience(seed: int = 0, lanes: int = LANES) -> Experience:
    rng = np.random.default_rng(seed)
    tape = Tape(
        observation=jnp.asarray(rng.normal(size=(STEPS + 1, lanes, FEATURES)), jnp.float32),
        action=jnp.asarray(rng.integers(ACTIONS, size=(STEPS + 1, lanes)), jnp.int32),
        logits=jnp.zeros((STEPS + 1, lanes, ACTIONS)),
        value=jnp.zeros((STEPS + 1, lanes), jnp.float32),
    )
    no = np.zeros((STEPS, lanes), bool)
    nothing = Episodes(*(np.zeros(0, int) for _ in Episodes._fields))
    reward = rng.normal(size=(STEPS, lanes)).astype(np.float32)
    return Experience(tape, reward, no, no.copy(), no.copy(), ~no, nothing)


def _learner(config: ReinforceConfig, learning_rate: float = 1.0, has_value: bool = False):
    """A learner of plain steps, and its first state, in which all weights are 0."""
    learner = make_reinforce(
        config, _linear_policy(has_value), _as_it_is(), optax.sgd(learning_rate), num_lanes=LANES,
        team=Team.alone(), learning_rate=lambda progress: learning_rate,
    )  # fmt: skip
    state = jax.jit(lambda key: learner.init(key, _linear_policy(has_value).init(key)))(jax.random.key(0))
    return learner, state


def _tell(config: ReinforceConfig, experience: Experience, learning_rate: float = 1.0, has_value: bool = False):
    learner, state = _learner(config, learning_rate, has_value)
    return learner.tell(state, [experience], experience.episodes, 0.0)


def _gradient_by_hand(experience: Experience, discount: float, weight: np.ndarray) -> np.ndarray:
    """Sum over agent steps of (one_hot(a) - pi) x observation x return-to-go, over the weight; pi is uniform."""
    total = np.zeros((FEATURES, ACTIONS))
    for lane in range(experience.reward.shape[1]):
        following = 0.0
        for t in reversed(range(STEPS)):
            following = experience.reward[t, lane] + discount * following
            score = np.eye(ACTIONS)[experience.tape.action[t, lane]] - 1 / ACTIONS
            total += weight[t, lane] * np.outer(experience.tape.observation[t, lane], score) * following
    return total / weight.sum()


BARE = ReinforceConfig(rollout_agent_steps=STEPS, baseline="none", cut_at_reward=False, entropy_bonus=0.0, discount=0.9)


def test_one_pass_is_the_plain_score_function_estimator() -> None:
    experience = _experience()
    state, metrics = _tell(BARE, experience)
    by_hand = _gradient_by_hand(experience, 0.9, np.ones((STEPS, LANES)))
    np.testing.assert_allclose(state.params["w"], by_hand, rtol=1e-5)  # plain SGD, rate 1, from weights 0
    assert metrics["gradient_norm"] == pytest.approx(np.linalg.norm(by_hand), rel=1e-5)
    assert metrics["entropy"] == pytest.approx(np.log(ACTIONS), rel=1e-5)


def test_later_updates_of_a_batch_weigh_what_an_older_policy_did_by_the_ratio() -> None:
    """Two updates of two rows, the second of which finds other weights than those that acted."""
    config, rate = replace(BARE, minibatch_agent_steps=2 * LANES), 3.0
    experience = _experience()
    learner, state = _learner(config, rate)
    shuffle_key = jax.jit(lambda key: tuple(jax.random.split(key)))(state.key)[1]
    first, second = minibatches(config, 2, shuffle_key)
    told, _ = learner.tell(state, [experience], experience.episodes, 0.0)
    returns = np.zeros((STEPS, LANES))
    following = np.zeros(LANES)
    for t in reversed(range(STEPS)):
        returns[t] = following = experience.reward[t] + 0.9 * following
    weights = np.zeros((FEATURES, ACTIONS))
    for rows in (first, second):
        step = np.zeros_like(weights)
        for t in rows:
            for lane in range(LANES):
                seen, action = np.asarray(experience.tape.observation[t, lane]), experience.tape.action[t, lane]
                probabilities = np.exp(seen @ weights) / np.exp(seen @ weights).sum()
                ratio = probabilities[action] * ACTIONS
                score = np.outer(seen, np.eye(ACTIONS)[action] - probabilities)
                step += ratio * returns[t, lane] * score / (2 * LANES)
        weights += rate * step
    np.testing.assert_allclose(told.params["w"], weights, rtol=1e-4, atol=1e-5)


def test_autoreset_steps_have_no_weight_whatever_they_hold() -> None:
    experience = _experience()
    weight = np.ones((STEPS, LANES), bool)
    weight[2, 1] = False
    reward = experience.reward.copy()
    reward[2, 1] = 0.0
    experience = experience._replace(acted=weight, reward=reward)
    poisoned = experience._replace(
        tape=experience.tape._replace(observation=experience.tape.observation.at[2, 1].set(1e6))
    )
    state, _ = _tell(BARE, experience)
    state_of_poisoned, _ = _tell(BARE, poisoned)
    np.testing.assert_array_equal(state.params["w"], state_of_poisoned.params["w"])


@pytest.mark.parametrize("chunk_agent_steps", [LANES, 2 * LANES, 512])
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut_for_the_cache(chunk_agent_steps: int) -> None:
    whole, _ = _tell(BARE, _experience())
    cut, _ = _tell(replace(BARE, chunk_agent_steps=chunk_agent_steps), _experience())
    np.testing.assert_allclose(cut.params["w"], whole.params["w"], rtol=1e-5, atol=1e-7)


def test_the_first_clipped_epoch_is_reinforce() -> None:
    plain, _ = _tell(BARE, _experience())
    # Two epochs from one batch: with a tiny step the second gradient equals the first.
    clipped, _ = _tell(replace(BARE, epochs=2), _experience(), learning_rate=1e-4)
    np.testing.assert_allclose(clipped.params["w"] / 2e-4, plain.params["w"], rtol=2e-3, atol=1e-4)


def test_the_clip_stops_what_has_moved_far() -> None:
    free, _ = _tell(replace(BARE, epochs=8, clip_epsilon=0.99), _experience(), learning_rate=1.0)
    held, metrics = _tell(replace(BARE, epochs=8, clip_epsilon=0.05), _experience(), learning_rate=1.0)
    assert np.abs(held.params["w"]).max() < np.abs(free.params["w"]).max()
    assert np.isfinite(metrics["kl"])


def test_batch_baseline_standardises_over_the_batch() -> None:
    experience = _experience()
    shifted = experience._replace(reward=experience.reward)
    config = replace(BARE, baseline="batch", discount=0.0)
    a, _ = _tell(config, experience)
    b, _ = _tell(config, shifted._replace(reward=experience.reward * 7 + 3))
    np.testing.assert_allclose(a.params["w"], b.params["w"], rtol=1e-4, atol=1e-6)


EMA = replace(BARE, baseline="ema", ema_decay=0.75, discount=0.0)
AT_ONCE = replace(BARE, discount=0.0)
"""Without a baseline, and a return that is the reward: what it is told is the advantage."""


def test_the_first_batch_is_its_own_running_mean_so_that_an_average_return_has_no_advantage() -> None:
    experience = _experience()._replace(reward=_experience().reward + 50)
    by_ema, _ = _tell(EMA, experience)
    by_batch, _ = _tell(replace(EMA, baseline="batch"), experience)
    np.testing.assert_allclose(by_ema.params["w"], by_batch.params["w"], rtol=1e-4, atol=1e-6)


def test_later_batches_have_the_running_mean_and_deviation_of_those_before() -> None:
    first, second = _experience(), _experience(seed=1)
    second = second._replace(reward=second.reward / 9)  # so close together that the running deviation is the larger one
    learner, state = _learner(EMA)
    state, _ = learner.tell(state, [first], first.episodes, 0.0)
    state, _ = learner.tell(
        state._replace(params={"w": jnp.zeros_like(state.params["w"])}), [second], second.episodes, 0.0
    )
    advantage = (second.reward - first.reward.mean()) / first.reward.std()
    by_hand, _ = _tell(AT_ONCE, second._replace(reward=advantage))
    np.testing.assert_allclose(state.params["w"], by_hand.params["w"], rtol=1e-4, atol=1e-6)
    weights = np.repeat([0.75, 1.0], STEPS * LANES)
    mean = np.average(np.stack([first.reward, second.reward]).ravel(), weights=weights)
    np.testing.assert_allclose(state.returns.mean, mean, rtol=1e-4)


def test_after_a_drought_the_ema_baseline_is_sane() -> None:
    """Equal returns for long leave no deviation; batches without weight leave what was known as it is."""
    learner, state = _learner(EMA)
    drought = _experience()._replace(reward=np.zeros((STEPS, LANES), np.float32))
    for _ in range(3):
        state, _ = learner.tell(state, [drought], drought.episodes, 0.0)
    rain = drought._replace(reward=np.eye(STEPS, LANES, dtype=np.float32))
    _, metrics = learner.tell(jax.tree.map(jnp.copy, state), [rain], rain.episodes, 0.0)
    _, of_batch = _tell(replace(EMA, baseline="batch"), rain)
    assert metrics["gradient_norm"] < 2 * of_batch["gradient_norm"]
    known = [float(x) for x in state.returns]
    nobody = rain._replace(acted=np.zeros((STEPS, LANES), bool))
    for _ in range(3):
        state, metrics = learner.tell(state, [nobody], nobody.episodes, 0.0)
        assert [float(x) for x in state.returns] == known
        assert metrics["gradient_norm"] == 0


@pytest.mark.parametrize("mean", [0.0, 10_000.0])
def test_standardised_values_keep_their_scale_whatever_the_mean(mean: float) -> None:
    """Weights of 0 give the running mean as the value; so the value loss is half the targets' mean square, 0.5."""
    config = replace(AT_ONCE, baseline="value", normalize_value=True, value_coefficient=0.0)
    learner, state = _learner(config, has_value=True)
    for seed in range(4):
        experience = _experience(seed)
        experience = experience._replace(reward=experience.reward + np.float32(mean))
        state, metrics = learner.tell(state, [experience], experience.episodes, 0.0)
    assert 0.2 < metrics["value_loss"] < 1.0
    assert -1 <= metrics["explained_variance"] <= 1


def test_metrics_name_the_rate_the_clipped_share_and_the_size_of_the_weights() -> None:
    experience = _experience()
    config = replace(BARE, epochs=2, clip_epsilon=0.1, discount=0.0)
    state, metrics = _tell(config, experience, learning_rate=0.5)
    assert metrics["learning_rate"] == 0.5
    assert metrics["weight_norm"] == pytest.approx(np.linalg.norm(state.params["w"]), rel=1e-5)
    after_one, _ = _tell(AT_ONCE, experience, learning_rate=0.5)
    log_probs = jax.nn.log_softmax(experience.tape.observation[:-1] @ after_one.params["w"])
    ratio = ACTIONS * np.exp(np.take_along_axis(np.asarray(log_probs), experience.tape.action[:-1, :, None], -1))
    share = (np.abs(ratio - 1) > 0.1).mean()
    assert 0 < share < 1
    assert metrics["clip_fraction"] == pytest.approx(share / 2, abs=1e-6), "the first pass moves from a ratio of 1"
    assert metrics["kl"] == pytest.approx((ratio - 1 - np.log(ratio)).mean() / 2, rel=1e-3)
    assert "clip_fraction" not in _tell(BARE, experience)[1]


def test_entropy_bonus_shrinks_linearly_to_its_final_share() -> None:
    experience = _experience()._replace(reward=np.zeros((STEPS, LANES), np.float32))
    config = replace(BARE, entropy_bonus=1.0, final_entropy_bonus_fraction=0.5)
    learner, _ = _learner(config)
    params = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(FEATURES, ACTIONS)), jnp.float32)}
    steps = {}
    for progress in (0.0, 0.5, 1.0):
        state = learner.init(jax.random.key(0), jax.tree.map(jnp.copy, params))
        moved, metrics = learner.tell(state, [experience], experience.episodes, progress)
        steps[progress] = np.asarray(moved.params["w"] - params["w"])
        assert metrics["entropy_bonus"] == 1 - progress / 2
    np.testing.assert_allclose(steps[0.5], 0.75 * steps[0.0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(steps[1.0], 0.5 * steps[0.0], rtol=1e-3, atol=1e-6)


def test_rewards_are_transformed_and_scaled_before_they_are_summed() -> None:
    experience = _experience()
    seen = 2.5 * np.clip(experience.reward, -1, 1)
    by_config, _ = _tell(replace(BARE, reward_transform="clip", reward_scale=2.5), experience)
    by_hand, _ = _tell(BARE, experience._replace(reward=seen))
    np.testing.assert_allclose(by_config.params["w"], by_hand.params["w"], rtol=1e-5)


def test_the_beginners_credit_weighs_the_whole_games_alone() -> None:
    experience = _experience()
    acted, terminated = np.ones((STEPS, LANES), bool), np.zeros((STEPS, LANES), bool)
    acted[0, 1] = False  # in lane 1 a game begins after an autoreset step and ends after two agent steps
    terminated[2, 1] = True
    reward = np.where(acted, experience.reward, 0)
    experience = experience._replace(acted=acted, terminated=terminated, reward=reward)
    state, _ = _tell(replace(BARE, weighting="total_minus_step"), experience)
    by_hand = np.zeros((FEATURES, ACTIONS))
    for number, t in enumerate((1, 2)):
        score = np.eye(ACTIONS)[experience.tape.action[t, 1]] - 1 / ACTIONS
        by_hand += np.outer(experience.tape.observation[t, 1], score) * (reward[1:3, 1].sum() - number) / 2
    np.testing.assert_allclose(state.params["w"], by_hand, rtol=1e-5, atol=1e-6)


def test_the_probability_clip_reaches_the_gradient() -> None:
    free, _ = _tell(replace(BARE, probability_clip=0.3), _experience())  # uniform over three: 1/3 is inside
    plain, _ = _tell(BARE, _experience())
    np.testing.assert_allclose(free.params["w"], plain.params["w"], rtol=1e-5)
    held, _ = _tell(replace(BARE, probability_clip=0.4), _experience())  # 1/3 is outside
    assert not np.any(held.params["w"])


def test_standardised_inputs_follow_what_was_seen_and_are_not_learned() -> None:
    experience = _experience()
    acted = np.ones((STEPS, LANES), bool)
    acted[1, 0] = False
    experience = experience._replace(acted=acted)
    policy = with_normalizer(_linear_policy(False), (FEATURES,))
    learner = make_reinforce(
        replace(BARE, normalize_observations=True), policy, _as_it_is(), optax.sgd(1.0), num_lanes=LANES,
        team=Team.alone(), learning_rate=lambda progress: 1.0, input_shape=(FEATURES,),
    )  # fmt: skip
    state = learner.init(jax.random.key(0), policy.init(jax.random.key(0)))
    state, metrics = learner.tell(state, [experience], experience.episodes, 0.0)
    assert metrics["input_clip_fraction"] == 0, "nothing was known yet, and no input is 10"
    plain, plain_metrics = _tell(BARE, experience)
    assert "input_clip_fraction" not in plain_metrics
    np.testing.assert_allclose(state.params["policy"]["w"], plain.params["w"], rtol=1e-5)  # nothing was known yet
    other = _experience(seed=1)
    known, far = jax.tree.map(np.asarray, state.params), 30 * other.tape.observation
    _, metrics = learner.tell(
        jax.tree.map(jnp.copy, state), [other._replace(tape=other.tape._replace(observation=far))], other.episodes, 0.0
    )
    at_clip = np.abs((far[:-1] - known["mean"]) / known["std"]) >= 10
    assert metrics["input_clip_fraction"] == pytest.approx(at_clip.mean()), "by what was known before"
    state, _ = learner.tell(state, [other], other.episodes, 0.0)
    seen = np.concatenate([experience.tape.observation[:-1][acted], other.tape.observation[:-1].reshape(-1, FEATURES)])
    np.testing.assert_allclose(state.params["mean"], seen.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.params["std"], seen.std(axis=0), rtol=1e-5)


def test_minibatches_use_every_agent_step_once_an_epoch() -> None:
    experience = _experience()
    tiny = 1e-4
    config = replace(BARE, minibatch_agent_steps=LANES)
    state, _ = _tell(config, experience, learning_rate=tiny)
    by_hand = _gradient_by_hand(experience, 0.9, np.ones((STEPS, LANES)))
    # STEPS updates of tiny size, each the mean over its own rows: together STEPS times the batch's mean
    np.testing.assert_allclose(state.params["w"] / tiny, STEPS * by_hand, rtol=1e-2, atol=1e-3)


def test_a_minibatch_is_at_most_the_whole_batch() -> None:
    whole, _ = _tell(BARE, _experience())
    larger, _ = _tell(replace(BARE, minibatch_agent_steps=STEPS * LANES + 1), _experience())
    assert np.array_equal(whole.params["w"], larger.params["w"])


def test_settings_that_contradict_each_other_are_errors() -> None:
    wrong = [
        (replace(BARE, td_lambda=0.9), "reinforce.td_lambda"),
        (replace(BARE, normalize_value=True), "reinforce.normalize_value"),
        (replace(BARE, weighting="total_minus_step", baseline="value"), "reinforce.weighting"),
        (replace(BARE, minibatch_agent_steps=5), "reinforce.minibatch_agent_steps"),
        (replace(BARE, minibatch_agent_steps=3 * LANES), "reinforce.minibatch_agent_steps"),
    ]
    for config, key in wrong:
        with pytest.raises(UserError, match=key):
            _tell(config, _experience())
