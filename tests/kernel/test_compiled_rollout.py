"""A rollout played as one program is the rollout that Python plays, to the bit."""

import gc
import os
import weakref
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental import io_callback

from jaxpg.core.types import CompiledEmulators
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool import EnvPool
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.compiled_rollout import AGENT_STEPS_AT_ONCE, CompiledRollout
from jaxpg.kernel.players import FixedPopulation
from jaxpg.kernel.rollout import Rollout
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from tests.helpers import counted_compilations, make_rollout, probe_config

LANES = 4
BREAKOUT = EnvConfig(game="Breakout", sticky_action_probability=0.25)
PONG = EnvConfig(game="Pong", actions=(2, 3), max_episode_agent_steps=50)
CARTPOLE = EnvConfig(game="CartPole-v1")
LAKE = EnvConfig(game="FrozenLake-v1")
MAZE = EnvConfig(game="MiniGrid-LavaGapS5-v0")


def _both(env: EnvConfig, **options) -> tuple[Rollout, Rollout, jax.Array]:
    compiled, policy = make_rollout(env, LANES, compiles=True, **options)
    plain, _ = make_rollout(env, LANES, **options)
    population = jax.vmap(policy.init)(jax.random.split(jax.random.key(0), 1))
    return compiled, plain, population


def _assert_equal(ours: Rollout, theirs: Rollout, population, num_agent_steps: int, key: int):
    key = jax.random.key(key)
    (a, _), (b, _) = (
        rollout.collect(FixedPopulation(population, rollout.num_lanes), num_agent_steps, key)
        for rollout in (ours, theirs)
    )
    jax.tree.map(np.testing.assert_array_equal, a, b)
    np.testing.assert_array_equal(ours.actions, theirs.actions)
    return a


@pytest.mark.parametrize(
    ("env", "greedy"),
    [
        *((BREAKOUT, False), (PONG, False), (CARTPOLE, False), (CARTPOLE, True), (LAKE, False)),
        pytest.param(MAZE, False, marks=pytest.mark.long),
    ],
    ids=["lives", "limit", "ends", "greedy", "number", "mapping"],
)
def test_what_is_played_is_equal_to_the_bit(env: EnvConfig, greedy: bool, monkeypatch) -> None:
    """Over several calls, of several lengths, after a reset, and with games that end within them and between them."""
    monkeypatch.setattr("jaxpg.kernel.compiled_rollout.AGENT_STEPS_AT_ONCE", 24)
    compiled, plain, population = _both(env, greedy=greedy)
    ended, lives_lost = 0, 0
    for segment in range(2):
        for rollout in (compiled, plain):
            rollout.reset(lane_seeds(1, segment, LANES))
        for number, num_agent_steps in enumerate((60, 60, 1) if segment == 0 else (60,)):
            played = _assert_equal(compiled, plain, population, num_agent_steps, number)
            ended += len(played.episodes.lane)
            lives_lost += played.life_lost.sum()
        assert isinstance(compiled._program, CompiledRollout), "one of them is compiled"
        assert plain._program is None, "and the other does not"
    assert lives_lost if env is BREAKOUT else ended
    for rollout in (compiled, plain):
        rollout.close()


def test_games_go_on_after_a_replay_as_they_would_have() -> None:
    compiled, plain, population = _both(BREAKOUT)
    seeds = lane_seeds(3, 0, LANES)
    plain.reset(seeds)
    plain.collect(FixedPopulation(population, plain.num_lanes), 30, jax.random.key(0))
    assert sum(compiled.replay(seeds, plain.actions)) == 30 * LANES
    for key in (1, 2):
        _assert_equal(compiled, plain, population, 30, key)
    for rollout in (compiled, plain):
        rollout.close()


def test_a_program_is_compiled_once_a_reset_and_not_kept_for_other_processes() -> None:
    """The emulators' address is in it: every start would add one to the cache of compiled code."""
    rollout, plain, population = _both(CARTPOLE)
    rollout.device = jax.devices()[0]  # as in a training, whose weights are bound to it
    population = jax.device_put(population, rollout.device)
    for segment in range(2):
        rollout.reset(lane_seeds(0, segment, LANES))
        with counted_compilations() as compiled:
            for key in range(3):  # each calls the program three times
                players = FixedPopulation(population, rollout.num_lanes)
                rollout.collect(players, 2 * AGENT_STEPS_AT_ONCE + 20, jax.random.key(key))
        assert len([name for name in compiled if "play_rows" in name]) == 1
    kept = [path.name for path in Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).iterdir()]
    assert any("gumbel_noise" in name for name in kept)
    assert not any("play_rows" in name for name in kept)
    rollout.close()
    plain.close()


def test_a_reset_leaves_nothing_of_the_program_and_its_emulators_behind() -> None:
    """JAX keeps callbacks of what it traced, and would with them keep megabytes and threads a reset."""
    rollout, plain, population = _both(CARTPOLE)
    rollout.reset(lane_seeds(0, 0, LANES))
    rollout.collect(FixedPopulation(population, rollout.num_lanes), 20, jax.random.key(0))
    program, emulators = weakref.ref(rollout._program), weakref.ref(rollout.pools[0]._pool)
    rollout.reset(lane_seeds(0, 1, LANES))
    gc.collect()
    assert program() is None
    assert emulators() is None
    rollout.close()
    plain.close()


def test_emulation_and_acting_are_told_apart(monkeypatch) -> None:
    """By a clock that only acting and emulation move."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def takes(seconds: float, x: jax.Array) -> jax.Array:
        def move(x):
            now[0] += seconds
            return x

        return io_callback(move, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    rollout, plain, population = _both(PONG)
    (pool,) = rollout.pools
    act, compiled = rollout.act, pool.compiled
    rollout.act = lambda population, raw, *rest: act(population, takes(0.3, raw), *rest)

    def slow() -> CompiledEmulators:
        emulators = compiled()
        return emulators._replace(recv=lambda handle: emulators.recv(takes(0.1, handle)))

    pool.compiled = slow
    rollout.reset(lane_seeds(0, 0, LANES))
    for num_agent_steps in (2, 40, 70):
        before = now[0]
        _, seconds = rollout.collect(FixedPopulation(population, rollout.num_lanes), num_agent_steps, jax.random.key(0))
        assert seconds.emulate == pytest.approx(0.1 * num_agent_steps)
        assert sum(seconds) == pytest.approx(now[0] - before)
    rollout.close()
    plain.close()


def test_which_recipes_play_in_programs() -> None:
    twice = ReinforceConfig(rollout_agent_steps=16, epochs=2)
    config = probe_config("Count", twice, num_lanes=LANES)
    cartpole = replace(config, env=CARTPOLE)
    pong = replace(config, env=PONG, observation=ObservationConfig())
    cases = {
        "epochs": (cartpole, True),
        "one update": (replace(cartpole, reinforce=replace(twice, epochs=1)), True),
        "convolution": (replace(pong, policy=PolicyConfig(name="dqn2013")), False),
        "two pools": (replace(cartpole, env=replace(CARTPOLE, num_pools=2)), False),
        "emulators in Python": (config, False),
    }
    for name, (case, expected) in cases.items():
        experiment = build(replace(case, env=replace(case.env, num_lanes=LANES)))
        experiment.rollout.reset(lane_seeds(0, 0, LANES))
        population = jax.tree.map(lambda x: x[None], experiment.policy.init(jax.random.key(0)))
        experiment.rollout.collect(FixedPopulation(population, experiment.rollout.num_lanes), 16, jax.random.key(1))
        assert (experiment.rollout._program is not None) == expected, name
        experiment.fleet.close()


def test_envpool_answers_a_program_as_it_answers_python() -> None:
    """Lost lives and ends are found in many rows as they are in one."""
    config = replace(BREAKOUT, max_episode_agent_steps=40)
    rollout, _ = make_rollout(config, LANES)
    pool = rollout.pools[0]
    assert isinstance(pool, EnvPool)
    pool.reset(lane_seeds(0, 0, LANES))
    raw, steps = [], [pool.recv()]
    read = pool._read

    def note(answer):
        observation, answers = read(answer)
        raw.append(answers)
        return observation, answers

    pool._read = note
    for _ in range(60):
        pool.send(np.ones(LANES, np.int32))
        steps.append(pool.recv())
    pool.reset(lane_seeds(0, 0, LANES))
    pool.recv()
    rows = pool.interpret(jax.tree.map(lambda *x: np.stack(x), *raw[:60]))
    for name in ("reward", "terminated", "truncated", "life_lost", "acted"):
        np.testing.assert_array_equal(getattr(rows, name), [getattr(step, name) for step in steps[1:]], name)
    assert rows.truncated.any()
    rollout.close()
