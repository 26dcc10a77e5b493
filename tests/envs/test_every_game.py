"""Every game that the emulators ship: one iteration of playing and learning on each, on both backends."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import Config
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import game_name, rom_ids_by_game
from jaxpg.experiment import build, lane_seeds
from jaxpg.learners.reinforce import ReinforceConfig
from jaxpg.policies import PolicyConfig
from tests.helpers import SMALL


def _envpool_games() -> list[str]:
    from envpool.atari.registration import atari_game_list

    return [game_name(rom_id) for rom_id in atari_game_list]


GAMES = [("ale", game) for game in rom_ids_by_game()] + [("envpool", game) for game in _envpool_games()]


@functools.cache
def _learning(backend: str):
    """One compiled learner for all games: with all 18 actions they have the same shapes."""
    config = Config(
        env=EnvConfig(backend=backend, num_lanes=2, num_threads=1, full_action_space=True),
        observation=SMALL,
        policy=PolicyConfig(name="linear"),
        reinforce=ReinforceConfig(rollout_agent_steps=4),
    )
    experiment = build(config)
    experiment.rollout.close()
    params = jax.jit(experiment.policy.init)(jax.random.key(0))
    return config, experiment, experiment.learner.init(jax.random.key(1), params)


def test_all_known_games_are_here() -> None:
    games = {backend: {game for b, game in GAMES if b == backend} for backend in ("ale", "envpool")}
    assert {"Pong", "Breakout", "MsPacman", "SpaceInvaders", "Qbert", "Seaquest"} <= games["ale"] & games["envpool"]
    assert len(games["ale"]) > 100
    assert len(games["envpool"]) > 55


@pytest.mark.parametrize(("backend", "game"), GAMES)
def test_one_iteration(backend: str, game: str) -> None:
    config, experiment, state = _learning(backend)
    rollout, learner = experiment.rollout, experiment.learner
    rollout.pools = [make_env(replace(config.env, game=game), experiment.observation.needs, 2)]
    assert rollout.pools[0].spec.num_actions == 18
    rollout.reset(lane_seeds(1, 0, 2))
    experience, _ = rollout.collect(learner.ask(state, jnp.zeros(1, jnp.int32)), 4, jax.random.key(2))
    rollout.close()
    assert experience.acted.any(axis=0).all(), "each lane played"
    copy = jax.tree.map(jnp.copy, state)  # the learner consumes what it is told to go on from
    after, metrics = learner.tell(copy, experience)
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
    assert any(jax.tree.leaves(moved))
