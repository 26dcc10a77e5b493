"""A rollout of an environment in JAX, played as one program, is the rollout that Python plays."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.core.errors import FaultError
from jaxpg.core.types import Answers, EmulatorNeeds, Experience, JaxEnvironment, JaxStep, TimeStep
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.jax_lanes import JaxLanes
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.outcomes import EpisodeCounter
from jaxpg.kernel.players import CandidateQueue, FixedPopulation, beginning
from jaxpg.kernel.rollout import Rollout
from jaxpg.policies.networks import PolicyConfig, make_policy
from jaxpg.policies.observations import ObservationConfig, make_observation
from tests.helpers import counted_compilations

pytestmark = pytest.mark.usefixtures("quick_compilation")
LANES = 4
LIMIT = 9


def walk() -> JaxEnvironment:
    """A walk to one of two ends: rewards are thirds, which round, and the state holds random numbers."""

    def reset(key):
        place = jax.random.randint(key, (), -1, 2)
        return (place, jnp.float32(0)), jnp.stack([place.astype(jnp.float32), 0.0])

    def step(key, state, action):
        place, noise = state[0] + 2 * action - 1, jax.random.normal(key)
        seen = jnp.stack([place.astype(jnp.float32), noise])
        return (place, noise), JaxStep(seen, place / 3, jnp.abs(place) > 2, life_lost=place == 0)

    return JaxEnvironment(reset, step, 2)


def make_rollout(environment: JaxEnvironment, **options) -> tuple[Rollout, jax.Array]:
    observation = make_observation(ObservationConfig(name="vector"))
    config = EnvConfig(backend="mine", max_episode_agent_steps=LIMIT)
    pool = JaxLanes(config, environment, EmulatorNeeds(kind="vector"), LANES)
    policy = make_policy(PolicyConfig(hidden=(8,)), (2,), 2, value=True)
    rollout = Rollout([pool], policy, observation, **options)
    return rollout, jax.vmap(policy.init)(jax.random.split(jax.random.key(0), 1))


def collected(rollout: Rollout, population, num_agent_steps: int, key: int) -> Experience:
    return rollout.collect(FixedPopulation(population, LANES), num_agent_steps, jax.random.key(key))[0]


def test_what_the_program_plays_is_what_python_plays() -> None:
    """Over several calls with ends of both kinds within them and between them."""
    program, population = make_rollout(walk())
    plain, _ = make_rollout(walk())
    plain._in_jax = None
    for rollout in (program, plain):
        rollout.reset(lane_seeds(1, 0, LANES))
    terminated = truncated = 0
    for number, num_agent_steps in enumerate((23, 23)):
        ours, theirs = (collected(rollout, population, num_agent_steps, number) for rollout in (program, plain))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), ours, theirs)
        terminated, truncated = terminated + ours.terminated.sum(), truncated + ours.truncated.sum()
    assert terminated
    assert truncated
    assert (program.path, plain.path) == ("rollouts in JAX", "rollouts stepped from Python")


def test_lanes_are_saved_and_brought_back_in_the_middle_of_episodes() -> None:
    rollout, population = make_rollout(walk())
    rollout.reset(lane_seeds(1, 0, LANES))
    collected(rollout, population, 11, 0)
    saved = jax.tree.map(np.asarray, rollout.saved_lanes())
    assert saved.lanes.length.max() > 0
    with counted_compilations() as compiled:
        wanted = collected(rollout, population, 11, 1)
    assert compiled == []  # nor after the lanes were saved
    other, _ = make_rollout(walk())
    other.reset(lane_seeds(9, 9, LANES))
    other.restore_lanes(jax.tree.map(jnp.asarray, saved))
    jax.tree.map(np.testing.assert_array_equal, collected(other, population, 11, 1), wanted)


def test_a_number_that_is_not_finite_is_a_fault_and_the_lanes_stay() -> None:
    def step(key, state, action):
        return walk_step(key, state, action)[0], JaxStep(jnp.zeros(2), jnp.log(-jnp.abs(state[0])), False)

    walk_step = walk().step
    rollout, population = make_rollout(walk()._replace(step=step))
    rollout.reset(lane_seeds(1, 0, LANES))
    rollout._receive_first()
    before = jax.device_get(rollout.pools[0].lanes)
    with pytest.raises(FaultError, match="the environment gave a reward or an observation that is infinite or NaN"):
        collected(rollout, population, 5, 0)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(rollout.pools[0].lanes), before)


def test_candidates_take_turns_and_a_replay_brings_the_lanes_back() -> None:
    """A queue is played by the loop of Python, whose actions a checkpoint stores."""

    def ask(ids: jax.Array):
        return jax.vmap(lambda one: jax.tree.map(lambda x: x[0] + one, population))(ids)

    rollout, population = make_rollout(walk(), keeps_tape=False)
    rollout.reset(lane_seeds(1, 0, LANES))
    queue = CandidateQueue(beginning(np.arange(12), LANES, 1), ask)
    first, _ = rollout.collect(queue, 8, jax.random.key(0))
    other, _ = make_rollout(walk(), keeps_tape=False)
    assert sum(other.replay(lane_seeds(1, 0, LANES), rollout.actions)) == 8 * LANES
    resumed = CandidateQueue(queue.snapshot(), ask)
    wanted, _ = rollout.collect(queue, 200, jax.random.key(1))
    ours, _ = other.collect(resumed, 200, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)
    played = np.concatenate([first.episodes.candidate, wanted.episodes.candidate])
    assert sorted(played) == list(range(12))


def test_episodes_of_many_rows_are_those_of_one_row_after_another() -> None:
    rng = np.random.default_rng(0)
    together, singly = EpisodeCounter(3), EpisodeCounter(3)
    playing = np.zeros(3, np.int64)
    for num_rows in (5, 1, 40, 2):
        ended = rng.random((num_rows, 3)) < 0.3
        reward = rng.integers(-3, 4, (num_rows, 3)).astype(np.float32)
        no = np.zeros((num_rows, 3), bool)
        rows = Answers(reward, ended, no, no, rng.random((num_rows, 3)) < 0.9)
        together.add_rows(rows)
        for row in range(num_rows):
            singly.add(row, slice(0, 3), TimeStep(reward[row], *(column[row] for column in rows)), playing)
        jax.tree.map(np.testing.assert_array_equal, together.take(), singly.take())
        np.testing.assert_array_equal(together.saved(), singly.saved())
    other = EpisodeCounter(3)
    other.restore(together.saved())
    np.testing.assert_array_equal(other.saved(), singly.saved())
