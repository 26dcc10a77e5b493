"""Every game that the emulators ship: one iteration of playing and learning on each, on both backends."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import game_name, rom_ids_by_game
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.players import FixedPopulation
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import make_observation
from tests.helpers import SMALL


def _envpool_games() -> list[str]:
    from envpool.atari.registration import atari_game_list

    return [game_name(rom_id) for rom_id in atari_game_list]


OBSERVATION = replace(SMALL, name="gray_motion")
"""It has the newest frame itself, which moves weights on a screen that stands still too."""
GAMES = [("ale", game) for game in rom_ids_by_game()] + [("envpool", game) for game in _envpool_games()]


def _env(backend: str, game: str) -> EnvConfig:
    return EnvConfig(backend=backend, game=game, num_lanes=1, num_threads=1, full_action_space=True)


@functools.cache
def _learning(backend: str, num_actions: int):
    """One compiled learner for all games with as many actions: with all of them offered, nearly all have 18."""
    game = {18: "Pong", 9: "Skiing"}[num_actions]
    config = Config(
        env=_env(backend, game),
        observation=OBSERVATION,
        policy=PolicyConfig(name="linear"),
        reinforce=ReinforceConfig(rollout_agent_steps=4),
    )
    experiment = build(config)
    experiment.rollout.close()
    params = jax.jit(experiment.policy.init)(jax.random.key(0))
    return experiment, experiment.learner.init(jax.random.key(1), params)


def test_all_known_games_are_here() -> None:
    games = {backend: {game for b, game in GAMES if b == backend} for backend in ("ale", "envpool")}
    assert {"Pong", "Breakout", "MsPacman", "SpaceInvaders", "Qbert", "Seaquest"} <= games["ale"] & games["envpool"]
    assert len(games["ale"]) > 100
    assert not games["ale"] & {"Combat", "Joust", "MazeCraze", "Warlords"}, "for two players, and ALE plays one"
    assert len(games["envpool"]) > 55


def test_a_game_that_ale_cannot_play_is_refused_before_it_ends_the_process() -> None:
    with pytest.raises(UserError, match="env.game: unknown name 'Warlords'"):
        make_env(EnvConfig(backend="ale", game="Warlords"), EmulatorNeeds(kind="pixels", height=35, width=40), 2)


@pytest.mark.parametrize(
    ("backend", "game"),
    [pytest.param(*one, marks=[] if number % 16 == 0 else [pytest.mark.long]) for number, one in enumerate(GAMES)],
)
def test_one_iteration(backend: str, game: str) -> None:
    pool = make_env(_env(backend, game), make_observation(OBSERVATION).needs, 1)
    experiment, state = _learning(backend, pool.spec.num_actions)
    rollout, learner = experiment.rollout, experiment.learner
    rollout.pools = [pool]
    rollout.reset(lane_seeds(1, 0, 1))
    experience, _ = rollout.collect(
        FixedPopulation(learner.ask(state, jnp.zeros(1, jnp.int32)), rollout.num_lanes), 4, jax.random.key(2)
    )
    rollout.close()
    assert experience.acted.sum() >= 3
    copy = jax.tree.map(jnp.copy, state)  # the learner consumes what it is told to go on from
    after, metrics = learner.tell(copy, [experience], experience.episodes, 0.0)
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
    is_dark = not np.any(experience.tape.observation)  # Elevator Action begins with a black screen
    assert any(jax.tree.leaves(moved)) != is_dark
