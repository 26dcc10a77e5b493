"""Every recipe in configs/ loads, and takes one step with few lanes."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxpg.config import PONG, load_recipe
from jaxpg.experiment import build
from tests.helpers import learn

pytestmark = pytest.mark.usefixtures("quick_compilation")

RECIPES = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


def test_there_are_recipes_and_pong_is_the_default() -> None:
    names = {path.stem for path in RECIPES}
    assert {
        "pong",
        "pong_reinforce",
        "cartpole",
        "atari",
        "atari_clipped",
        "atari_fast",
        "atari_machado",
        "n2_pong_mlp",
    } <= names
    assert load_recipe(next(path for path in RECIPES if path.stem == "pong_reinforce")) == PONG


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_takes_a_step(path: Path) -> None:
    config = load_recipe(path)
    config = replace(
        config,
        env=replace(config.env, num_lanes=2, num_threads=2),
        reinforce=replace(config.reinforce, rollout_agent_steps=4, minibatch_agent_steps=0),
    )
    experiment = build(config)
    state, metrics, _ = learn(experiment, config, 1)
    experiment.rollout.close()
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
