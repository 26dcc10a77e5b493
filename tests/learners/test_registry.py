"""A learner of a user's own has a section and flags like those of the package, and every command knows it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxpg.config import Config, RunConfig, config_type, dump, from_mapping, load_recipe, own_section
from jaxpg.core.errors import UserError
from jaxpg.core.types import Episodes, Experience, Params, Population
from jaxpg.envs.config import EnvConfig
from jaxpg.evaluate import main as evaluate_main
from jaxpg.experiment import build
from jaxpg.kernel.rollout import NOT_SENT
from jaxpg.learners.base import Ingredients, Learner, LearnerKind, Metrics
from jaxpg.learners.evolution import EvolutionConfig
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.random_search import RandomSearchConfig
from jaxpg.learners.registry import LEARNERS, register_learner
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from jaxpg.viewing.trace import returns_to_go
from tests.helpers import play_rounds
from tests.runs import records, run

PROBE = [
    *("--env.backend", "probe", "--env.game", "Count", "--observation.name", "vector", "--policy.hidden", "4"),
    *("--env.num-lanes", "4", "--run.learner", "still", "--run.budget-agent-steps", "64"),
]


@dataclass(frozen=True)
class StillConfig:
    """A learner that never learns."""

    steps: int = 8
    """Agent steps of a rollout."""
    patience: float = 1.0
    """A number that is a metric."""


class StillState(NamedTuple):
    """What a checkpoint keeps."""

    params: Params
    iteration: np.ndarray


def make_still(ingredients: Ingredients[StillConfig]) -> Learner:
    patience = ingredients.config.patience

    def ask(state: StillState, ids: jax.Array) -> Population:
        return jax.tree.map(lambda x: x[None], state.params)

    def tell(
        state: StillState, experiences: Sequence[Experience], episodes: Episodes, progress: float
    ) -> tuple[StillState, Metrics]:
        metrics = {"patience": patience, "stood": state.iteration}
        return state._replace(iteration=state.iteration + 1), metrics

    return Learner(
        init=lambda key, params: StillState(params, jax.numpy.zeros((), "int32")),
        ask=ask,
        tell=tell,
        keeps_tape=False,
        progress_metrics=("stood",),
    )


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LEARNERS, "_entries", dict(LEARNERS))
    decorate: Any = register_learner("still", StillConfig, rollout_setting="steps")
    assert decorate(make_still) is make_still
    assert decorate(make_still) is make_still, "a notebook's cell that is run twice"


@pytest.mark.usefixtures("still")
def test_a_learner_of_ones_own_is_trained_saved_resumed_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text("still: {patience: 2.5, steps: 4}\n")
    run(str(recipe), *PROBE, "--run.dir", str(folder), "--still.steps", "16")
    assert [(row["patience"], row["stood"], row["agent_steps"]) for row in records(folder)] == [(2.5, 0, 64)]
    assert "stood=0" in capsys.readouterr().out
    run("--resume", str(folder), "--run.budget-agent-steps", "128")
    assert [row["stood"] for row in records(folder)] == [0, 1]
    config = load_recipe(folder / "config.yaml")
    assert own_section(config) == StillConfig(steps=16, patience=2.5)
    with pytest.raises(SystemExit) as end:
        evaluate_main([str(folder), "--episodes", "3"])
    assert end.value.code == 0
    assert json.loads((folder / "evaluation.json").read_text())[0]["returns"] == [15.0] * 3
    credited = returns_to_go(config, np.array([1, 2, 3], np.float32), np.zeros(3, bool))
    assert credited.tolist() == [6, 5, 3], "no learner that says nothing else discounts"


@pytest.mark.usefixtures("still")
def test_mistakes_in_ones_own_section_are_sentences_with_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("still: {patence: 2}\n")
    with pytest.raises(UserError, match=r":1:9: still.patence: unknown key; did you mean 'patience'\?$"):
        load_recipe(recipe)
    run(*PROBE, "--still.step", "1", code=2)
    assert "unknown flag --still.step; did you mean '--still.steps'?" in capsys.readouterr().err


@pytest.mark.usefixtures("still")
def test_a_run_of_another_learner_is_read_where_ones_own_is_not_registered(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump(config_type()()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LEARNERS, "_entries", {name: kind for name, kind in LEARNERS.items() if name != "still"})
        assert load_recipe(path) == Config()
    early = Config(run=RunConfig(learner="still"))
    with pytest.raises(UserError, match=r"^run.learner: still was registered after this configuration was made; "):
        own_section(early)


def test_an_unknown_learner_is_named_with_its_place(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("run:\n  learner: evolutoin\n")
    with pytest.raises(UserError, match=r":2:3: run.learner: unknown name 'evolutoin'; did you mean 'evolution'\?$"):
        load_recipe(recipe)
    with pytest.raises(UserError, match=r"^run.learner: unknown name 'x'; valid names are evolution, random_search, "):
        from_mapping({"run": {"learner": "x"}})


@pytest.mark.parametrize("name", ["env", "imports", "history", "my-learner", "class"])
def test_a_learner_cannot_have_the_name_of_another_section(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LEARNERS, "_entries", dict(LEARNERS))
    decorate: Any = register_learner(name, StillConfig)
    decorate(make_still)
    with pytest.raises(UserError, match=f"^run.learner: '{name}' "):
        config_type()


def test_settings_without_defaults_are_refused() -> None:
    @dataclass(frozen=True)
    class Demanding:
        steps: int

    for config in (Demanding, int):
        with pytest.raises(UserError, match="must be a dataclass whose fields all have defaults$"):
            LearnerKind(config=config, make=make_still)


CARTPOLE = Config(
    env=EnvConfig(game="CartPole-v1", num_threads=1, num_lanes=8),
    observation=ObservationConfig(name="vector"),
    policy=PolicyConfig(name="linear", bias=False),
    random_search=RandomSearchConfig(candidates=12, prior="normal", greedy=False, finalists=1, winner_episodes=9),
    evolution=EvolutionConfig(pairs=6, normalize_observations=True),
    optimizer=OptimizerConfig(schedule="constant"),
)


@pytest.mark.parametrize("learner", ["random_search", "evolution"])
def test_rounds_come_to_rest_in_pools_and_play_the_same_games(learner: str) -> None:
    states, made = [], None
    for pools in (2, 1):
        env = replace(CARTPOLE.env, num_pools=pools)
        config = replace(CARTPOLE, run=RunConfig(learner=learner), env=env)
        experiment = build(config)
        assert len(experiment.rollout.pools) == pools
        made = made or experiment.learner  # one alone, which compiles once
        state = play_rounds(experiment._replace(learner=made), config, 2 if learner == "random_search" else 1)
        states.append([np.asarray(x) for x in jax.tree.leaves(state._replace(key=None))])
        rests = experiment.rollout.actions == NOT_SENT
        assert (rests.any(axis=1) & ~rests.all(axis=1)).any() == (pools == 2)
        experiment.fleet.close()
    assert all(np.array_equal(*both) for both in zip(*states, strict=True))


def test_a_learner_of_ones_own_that_cannot_be_made_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys
) -> None:
    def make(ingredients: Ingredients[StillConfig]) -> Learner:
        raise KeyError("no such teacher")

    monkeypatch.setattr(LEARNERS, "_entries", dict(LEARNERS))
    decorate: Any = register_learner("still", StillConfig, rollout_setting="steps")
    decorate(make)
    run(*PROBE, "--run.dir", str(tmp_path / "run"), code=2)
    assert capsys.readouterr().err.startswith(f"jaxpg: run.learner: 'still': {__file__}:")
    assert not (tmp_path / "run").exists()
