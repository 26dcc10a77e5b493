"""The public functions called from Python: a wrong argument is one sentence, and nothing wrong stays silent."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.config import Config, load_run
from jaxpg.experiment import Player, build
from jaxpg.kernel.trained_policy import TrainedPolicy
from jaxpg.run.saved_run import restore_params
from tests.runs import records, saved

COUNT = {
    **{"env.backend": "probe", "env.game": "Count", "observation.name": "vector", "policy.hidden": (4,)},
    **{"env.num_lanes": 2, "reinforce.rollout_agent_steps": 4, "run.budget_agent_steps": 8, "run.writers": ()},
}
"""A run of one iteration that needs no emulator."""


def with_run(config: Config, **run: object) -> Config:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **run))


@pytest.fixture(scope="module")
def count() -> Config:
    return jaxpg.load_recipe("", COUNT)


@pytest.fixture(scope="module")
def folder(count: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose configuration was made by hand, without ``load_recipe``."""
    return jaxpg.train(with_run(count, schedule_agent_steps=0), tmp_path_factory.mktemp("python") / "run").folder


def test_a_hand_made_configuration_is_resolved_as_a_recipe_is(folder: Path) -> None:
    assert load_run(str(folder)).run.schedule_agent_steps == 8


def test_a_configuration_that_is_none_or_wrong_is_refused(count: Config, tmp_path: Path) -> None:
    with pytest.raises(jaxpg.UserError, match=r"config: a configuration, such as .* returns, not str$"):
        jaxpg.train("cartpole", tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(jaxpg.UserError, match=r"^run.seed: input should be greater than or equal to 0, not -5$"):
        jaxpg.train(with_run(count, seed=-5), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_has_a_folder_and_never_begins_anew(count: Config, folder: Path) -> None:
    with pytest.raises(jaxpg.UserError, match="^folder: which run is to be resumed"):
        jaxpg.train(count, resume=True)
    longer = with_run(count, dir=str(folder), budget_agent_steps=16)
    resumed = jaxpg.train(longer, resume=True)
    assert (resumed.folder, resumed.iterations) == (folder, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"episodes": "3"}, "episodes: a whole number, not '3'"),
        ({"episodes": 3.0}, "episodes: a whole number, not 3.0"),
        ({"episodes": 3, "seed": 0.5}, "seed: a whole number, not 0.5"),
        ({"episodes": 3, "actions": "argmax"}, "actions: unknown name 'argmax'; valid names are greedy, random, sampl"),
        ({"episodes": 3, "imports": "mine.py"}, "imports: a list of modules and files, such as ['mine.py'], not the"),
    ],
)
def test_a_wrong_argument_of_evaluate_is_a_sentence(arguments: dict, sentence: str, folder: Path) -> None:
    with pytest.raises(jaxpg.UserError) as refused:
        jaxpg.evaluate(folder, **arguments)
    assert str(refused.value).startswith(sentence)


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(jaxpg.UserError, match="^which runs"):
        jaxpg.report([])


def test_a_policy_refuses_observations_that_its_environment_cannot_give(folder: Path) -> None:
    policy = jaxpg.load_policy(folder)
    shape = policy.observation_shape
    for observation, sentence in (
        ("x", "no array of numbers"),
        (np.zeros((0, *shape)), "holds no observation"),
        (np.full(shape, np.nan), "infinite or NaN"),
    ):
        with pytest.raises(jaxpg.UserError, match=f"^observation: .*{sentence}"):
            policy(observation)


def test_a_scaled_picture_is_not_taken_for_bytes(folder: Path) -> None:
    """Bytes from 0 to 255 that were divided by 255 would all become 0 or 1."""
    policy = object.__new__(TrainedPolicy)
    policy.observation_shape, policy.observation_dtype = (2,), np.dtype(np.uint8)
    policy.params, policy._decide = None, lambda params, raw, key: jax.tree.map(np.asarray, (raw,))
    for given in ([0.5, 1.0], [-1, 3], [256, 3]):
        with pytest.raises(jaxpg.UserError, match="must be those of the environment, of type uint8; do not scale"):
            policy(given)
    np.testing.assert_array_equal(policy([[7.0, 255.0]])[0], np.array([[7, 255]], np.uint8))


def test_a_folder_that_is_gone_is_said_and_may_be_put_back(count: Config, tmp_path: Path, caplog) -> None:
    """Someone moves the folder while the run trains. The open files stay, and the next save finds the folder again."""
    folder, elsewhere = tmp_path / "run", tmp_path / "moved"

    def move(record: dict, episodes: list) -> None:
        if record["iteration"] == 1:
            folder.rename(elsewhere)
        if record["iteration"] == 3:
            elsewhere.rename(folder)

    config = with_run(count, budget_agent_steps=32)
    config = dataclasses.replace(config, checkpoint=dataclasses.replace(config.checkpoint, every_iterations=1))
    with caplog.at_level("INFO", "jaxpg"):
        result = jaxpg.train(config, folder, callbacks=[move])
    assert result.iterations == 4
    assert (
        f"iteration 1 was not saved: the run folder is gone; put it back as {folder}; the training goes on"
        in caplog.text
    )
    assert 0 < result.episodes < 100
    assert (
        f"mean return of the last {result.episodes} games {result.return_mean_100:.2f}; all of it in {folder}"
        in caplog.text
    )
    assert [record["iteration"] for record in records(folder)] == [1, 2, 3, 4]
    assert saved(folder)[0][-1] == 4
    caplog.clear()
    longer = with_run(config, budget_agent_steps=40)
    with (
        caplog.at_level("INFO", "jaxpg"),
        pytest.raises(jaxpg.FaultError, match="iteration 5 was not saved: the run f"),
    ):
        jaxpg.train(longer, folder, resume=True, callbacks=[lambda record, episodes: shutil.rmtree(folder)])
    assert "all of it in" not in caplog.text


def test_files_of_a_run_that_cannot_be_written_are_a_sentence(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "metrics.jsonl").unlink()
    (copied / "metrics.jsonl").mkdir()
    with pytest.raises(jaxpg.UserError, match=f"{copied}: the run's files cannot be written: Is a directory"):
        jaxpg.train(folder=copied, resume=True)


def test_what_is_infinite_at_once_is_not_blamed_on_the_learning_rate_alone(tmp_path: Path) -> None:
    config = jaxpg.load_recipe("", {**COUNT, "optimizer.learning_rate": 1e38, "optimizer.name": "sgd"})
    with pytest.raises(jaxpg.UserError) as refused:
        jaxpg.train(config, tmp_path / "run")
    assert " in iteration 1; there is no checkpoint yet; a setting such as optimizer." in str(refused.value)
    assert str(refused.value).endswith(", or the policy itself returns such numbers")


def test_a_value_is_a_return_to_go_although_the_head_learns_standardised_ones(tmp_path: Path) -> None:
    settings = {"env.game": "CartPole-v1", "env.num_lanes": 8, "run.budget_agent_steps": 16 * 8 * 64}
    settings |= {"reinforce.rollout_agent_steps": 64, "reinforce.minibatch_agent_steps": 0}
    config = jaxpg.load_recipe("vector", settings)
    assert config.reinforce.normalize_value
    folder = tmp_path / "run"
    jaxpg.train(config, folder)
    experiment = build(config, Player(config.env))
    restored = restore_params(folder, experiment, "latest")
    scale = restored.value_scale
    means = [record["return_to_go_mean"] for record in records(folder)]
    assert 5 < min(means) < scale.mean < max(means), "of a pole that stands for some twenty agent steps"
    standing = np.zeros(4, np.float32)
    _, output = experiment.policy.apply(restored.params, standing)
    experiment.fleet.close()
    value = jaxpg.load_policy(folder)(standing).value
    assert float(value) == pytest.approx(float(scale.mean + scale.deviation * output), rel=1e-5)
    (video,) = jaxpg.record(folder)
    (game,) = json.loads(video.with_suffix(".json").read_text())["games"]
    assert np.abs(np.array(game["values"]) - scale.mean).max() < 4 * scale.deviation
    assert np.mean(game["values"]) > 5
