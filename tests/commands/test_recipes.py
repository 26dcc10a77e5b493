"""Every recipe loads, means what it always meant, and takes one step with few lanes."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxpg.cli import parse_train
from jaxpg.config import RECIPES, Config, load_recipe, packaged_recipes, with_schedule
from jaxpg.core.errors import UserError
from jaxpg.experiment import build
from tests.helpers import learn

pytestmark = pytest.mark.usefixtures("quick_compilation")

PACKAGED = packaged_recipes()
RESOLVED = json.loads((Path(__file__).parent / "resolved_recipes.json").read_text())
"""Every setting that a recipe uses, as it was when results were measured."""


def used(config: Config) -> dict[str, Any]:
    """The settings that have an effect, as JSON has them."""
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    for learner in {"reinforce", "random_search", "evolution"} - {config.run.learner}:
        del settings[learner]
    for name in ("options", "workers"):  # no recipe of the package is for Gymnasium
        assert not settings["env"].pop(name)
    for name in ("population", "sweep"):
        assert not settings["run"].pop(name)
    seen = settings["observation"]
    if seen["name"] not in ("gray_difference", "gray_motion"):
        settings["observation"] = {"name": seen["name"]}
    else:
        seen["end_row"], seen["end_column"] = seen["end_row"] or seen["height"], seen["end_column"] or seen["width"]
    return settings


def test_the_recipes_of_the_checkout_are_those_of_the_package() -> None:
    configs = Path(__file__).parents[2] / "configs"
    assert configs.resolve() == RECIPES.resolve()
    assert {str(path.relative_to(configs).with_suffix("")) for path in configs.rglob("*.yaml")} == set(PACKAGED)
    assert sorted(Path(name).name for name in PACKAGED) == sorted(RESOLVED)


@pytest.mark.parametrize("name", PACKAGED)
def test_every_recipe_means_what_it_meant(name: str) -> None:
    assert used(load_recipe(PACKAGED[name])) == RESOLVED[Path(name).name]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_recipe_takes_a_step(name: str) -> None:
    config = load_recipe(PACKAGED[name])
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


def test_the_defaults_belong_to_no_game() -> None:
    config = Config()
    assert not config.reinforce.cut_at_reward
    assert (config.env.actions, config.observation.background) == ((), ())
    seen = config.observation
    assert (seen.first_row, seen.end_row, seen.first_column, seen.end_column) == (0, 0, 0, 0)


CHOSEN = [
    ([], "pong_reinforce", "Pong", 18.0),
    (["--env.backend", "ale"], "pong_reinforce", "Pong", 18.0),
    (["--env.game", "Breakout"], "atari", "Breakout", None),
    (["--env.game", "MsPacman", "--env.backend", "ale"], "atari", "MsPacman", None),
    (["--env.game", "CartPole-v1"], "cartpole", "CartPole-v1", 495.0),
    (["--env.game", "Acrobot-v1"], "vector", "Acrobot-v1", None),
    (["--env.game", "MountainCar-v0", "--run.target-return", "-110"], "vector", "MountainCar-v0", -110.0),
    (["--env.game", "Taxi-v3"], "vector", "Taxi-v3", None),
    (["--env.game", "BabyAI-GoToLocal-v0"], "small_picture", "BabyAI-GoToLocal-v0", None),
    (["--env.backend", "gymnax", "--env.game", "CartPole-v1"], "cartpole", "CartPole-v1", 495.0),
    (["--env.backend", "gymnax", "--env.game", "Freeway-MinAtar"], "minatar", "Freeway-MinAtar", None),
]


@pytest.mark.parametrize(
    ("argv", "name", "game", "target"), CHOSEN, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_a_game_chooses_its_recipe(argv: list[str], name: str, game: str, target: float | None) -> None:
    arguments = parse_train(argv)
    assert arguments.about == (f"recipe {name}, chosen for {game}",)
    recipe = load_recipe(PACKAGED[name])
    schedule = recipe.run.schedule_agent_steps or recipe.run.budget_agent_steps
    assert arguments.config == replace(
        recipe,
        env=replace(recipe.env, game=game, backend=arguments.config.env.backend),
        run=replace(recipe.run, target_return=target, schedule_agent_steps=schedule),
    )


def test_a_packaged_recipe_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pong").mkdir()
    for name in ("pong", "notebooks/n2_pong_mlp"):
        arguments = parse_train([name])
        assert arguments.config == with_schedule(load_recipe(PACKAGED[name]))
        assert arguments.about == (f"recipe {name}",)
    with pytest.raises(
        UserError, match="^pnog: neither a file nor a recipe that comes with jaxpg; did you mean 'pong'"
    ):
        parse_train(["pnog"])
    with pytest.raises(UserError, match="neither a file nor a recipe"):
        parse_train(["../recipes/pong"])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["pong"],
            "its env.actions and its crop, .* and its observation.background belong to Pong and not to Br",
        ),
        (["pong", "--env.actions", "FIRE"], "recipe pong: its crop, observation.first_row to end_column and its obs"),
        (["pong", "--observation.name", "stack84"], "recipe pong: its env.actions belong to Pong and not to Breakout"),
        (
            ["notebooks/n2_pong_mlp"],
            "n2_pong_mlp: its env.actions belong .*; give them as flags, or train without",
        ),
    ],
)
def test_what_belongs_to_another_game_is_refused(argv: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_train([*argv, "--env.game", "Breakout"])


def test_what_is_given_as_a_flag_is_meant_for_the_game() -> None:
    argv = ["pong", "--env.game=Breakout", "--env.actions", "FIRE", "RIGHT", "--observation.first-row", "20"]
    arguments = parse_train(argv)
    assert arguments.config.env.actions == ("FIRE", "RIGHT")
    assert arguments.about == (
        "recipe pong",
        "reinforce.cut_at_reward is kept from Pong: any reward ends the credit in Breakout, too",
        "the target of Pong, 18, is left out for Breakout",
    )
    assert len(parse_train([*argv, "--reinforce.no-cut-at-reward"]).about) == 2


@pytest.mark.parametrize(
    ("lanes", "asked", "used_agent_steps"),
    [
        *((32, 512, 512), (12, 512, 384), (24, 512, 384), (48, 512, 384), (1024, 512, 1024)),
        *((7, 512, 512), (7, 200, 224), (32, 100, 128)),
    ],
)
def test_any_number_of_lanes_gets_minibatches_that_divide_the_batch(
    lanes: int, asked: int, used_agent_steps: int
) -> None:
    config = Config(observation=replace(Config().observation, name="vector"))
    config = replace(
        config,
        env=replace(config.env, game="Count", backend="probe", num_lanes=lanes),
        reinforce=replace(config.reinforce, rollout_agent_steps=64, minibatch_agent_steps=asked),
    )
    experiment = build(config)
    experiment.rollout.close()
    said = (
        f"updates learn from {used_agent_steps} agent steps, which divide a batch of {lanes} lanes x 64 agent steps; re"
    )
    said += f"inforce.minibatch_agent_steps asks for {asked}"
    assert experiment.remarks == ((said,) if used_agent_steps != asked else ())


@pytest.mark.parametrize("name", [name for name in PACKAGED if RESOLVED[Path(name).name].get("reinforce")])
@pytest.mark.parametrize("lanes", [12, 24, 48])
def test_every_recipe_takes_12_24_and_48_lanes(name: str, lanes: int) -> None:
    config = load_recipe(PACKAGED[name])
    config = replace(  # the lanes of a probe: what divides is a matter of numbers alone
        config,
        env=replace(config.env, game="Count", backend="probe", num_lanes=lanes, actions=()),
        observation=replace(config.observation, name="vector"),
        policy=replace(config.policy, name="mlp"),
    )
    build(config).rollout.close()
