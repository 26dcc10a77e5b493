"""A study in its storage: who works on which trial, and what becomes of it."""

import gc
import sqlite3
import warnings
from contextlib import closing

import pytest

from jaxpg.config import Config, load_recipe, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.scores.study_file import read_study
from jaxpg.suite.goal import Goal
from jaxpg.suite.space import space_from_words
from jaxpg.suite.study import Study

CONFIG = with_overrides(Config(), {"run.budget_agent_steps": 1000, "optimizer.learning_rate": 0.01})
WORDS = ["optimizer.learning_rate=log:1e-3:1e-1"]


def _study(folder, words=WORDS, config=CONFIG, seeds=(1, 2), **changes) -> Study:
    goal = changes.pop("goal", Goal("last", "mean", 1000))
    return Study(folder / "study", config, space_from_words(words, config), seeds, goal, **changes)


def test_the_first_trial_is_the_recipe_as_it_is(tmp_path):
    trial = _study(tmp_path).take(5)
    assert (trial.number, trial.params) == (0, {"optimizer.learning_rate": 0.01})
    assert [training.config.run.seed for training in trial.trainings.values()] == [1, 2]
    assert {training.config.optimizer.learning_rate for training in trial.trainings.values()} == {0.01}


def test_an_interrupted_trial_is_taken_up_and_one_at_work_is_left_alone(tmp_path):
    first = _study(tmp_path)
    trial = first.take(5)
    first.report(trial, 500, 1.5)
    other = _study(tmp_path).take(5)
    assert other.number == 1, "the first process still works on trial 0"
    assert _study(tmp_path).take(2) is None, "two trials have begun"
    trial.lock.release()  # as the system does when the process ends
    again = _study(tmp_path).take(2)
    assert (again.number, again.params) == (0, trial.params)
    assert [training.folder for training in again.trainings.values()] == [
        training.folder for training in trial.trainings.values()
    ]


def test_complete_trials_are_rated_and_the_best_becomes_a_recipe(tmp_path):
    study = _study(tmp_path, ["optimizer.learning_rate=0.01,0.02", "policy.hidden=[8],[16, 16]"], sampler="random")
    for number in range(3):
        trial = study.take(3)
        assert study.complete(trial, {1: float(number), 2: number + 1.0}) == number + 0.5
    results = study.write()
    assert results == read_study(tmp_path / "study" / "study.json")
    assert results.best == max(one.number for one in results.trials if one.state == "complete")
    best = results.trials[results.best]
    recipe = load_recipe(tmp_path / "study" / "best.yaml")
    assert list(recipe.policy.hidden) == best.settings["policy.hidden"]
    assert recipe.optimizer.learning_rate == best.settings["optimizer.learning_rate"]
    assert (recipe.run.seed, recipe.run.dir, recipe.env) == (CONFIG.run.seed, "", CONFIG.env)
    assert study.take(3) is None


def test_the_same_settings_are_not_run_twice(tmp_path):
    study = _study(tmp_path, ["reinforce.epochs=1"])
    study.complete(study.take(4), {1: 2.0, 2: 4.0})
    assert study.take(4) is None
    results = study.results()
    found = [(one.state, one.value, one.scores) for one in results.trials]
    assert found == [("complete", 3.0, {"1": 2.0, "2": 4.0})] * 4
    assert results.best == 0


def test_a_trial_worse_than_the_median_is_given_up(tmp_path):
    study = _study(tmp_path)
    for number in range(5):
        trial = study.take(9)
        for agent_steps in (250, 500):
            assert not study.report(trial, agent_steps, number * agent_steps)
        study.complete(trial, {1: 1.0, 2: 1.0})
    bad = study.take(9)
    assert not study.report(bad, 50, -9.0), "the first fifth of the budget says nothing"
    assert study.report(bad, 500, 2 * 500 - 1.0)
    study.give_up(bad, "worse")
    good = study.take(9)
    assert not study.report(good, 500, 2 * 500 + 1.0)
    assert [(one.state, one.reason) for one in study.results().trials][-2:] == [("pruned", "worse"), ("running", None)]


def test_halving_gives_up_all_but_the_better_half(tmp_path):
    study = _study(tmp_path, pruner="halving")
    trials = [study.take(9) for _ in range(4)]
    assert [study.report(trial, 125, value) for trial, value in zip(trials, (1.0, 4.0, 2.0, 5.0), strict=True)] == [
        False,
        False,
        True,
        False,
    ]


def test_a_fault_does_not_count_as_a_trial_and_a_bad_choice_does(tmp_path):
    study = _study(tmp_path)
    study.give_up(study.take(2), "emulators fell silent", is_fault=True)
    study.give_up(study.take(2), "a weight became NaN")
    assert study.take(2).number == 2
    assert [one.state for one in study.results().trials] == ["failed", "pruned", "running"]


def test_values_that_do_not_fit_together_are_given_up_at_once(tmp_path, monkeypatch):
    study = _study(tmp_path)
    original = with_overrides

    def refuse(config, overrides):
        if overrides.get("optimizer.learning_rate") == 0.01:
            raise UserError("they do not fit")
        return original(config, overrides)

    monkeypatch.setattr("jaxpg.suite.study.with_overrides", refuse)
    assert study.take(3).number == 1
    assert study.results().trials[0].reason == "they do not fit"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with a study."""
    folder = tmp_path_factory.mktemp("there")
    _study(folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"words": ["optimizer.learning_rate=log:1e-3:2e-1"]}, "its space of optimizer.learning_rate is"),
        ({"words": ["reinforce.epochs=1,2"]}, "its space of optimizer.learning_rate is"),
        ({"config": with_overrides(CONFIG, {"env.num_lanes": 5})}, "its env.num_lanes is"),
        ({"seeds": (1, 3)}, r"its seeds is \[1, 2\], not \[1, 3\]; choose another folder with --study"),
        ({"goal": Goal("final", "mean", 1000)}, "its score is 'last', not 'final'"),
        ({"goal": Goal("last", "worst", 1000)}, "its over seeds is 'mean', not 'worst'"),
    ],
)
def test_a_study_of_something_else_is_refused(there, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        _study(there, **changes)


def test_how_trials_are_chosen_and_pruned_may_change(there):
    _study(there, sampler="random", pruner="none")


def test_a_damaged_storage_is_a_sentence(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"study\.db: no study that can be read; move it away to begin a new one"):
        _study(tmp_path)
    with warnings.catch_warnings():  # Optuna leaves the connection open; Python 3.13 says so when it is collected
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_the_storage_is_one_sqlite_file(tmp_path):
    study = _study(tmp_path)
    study.report(study.take(1), 500, 1.25)
    with closing(sqlite3.connect(tmp_path / "study" / "study.db")) as storage:
        found = storage.execute("SELECT step, intermediate_value FROM trial_intermediate_values").fetchall()
    assert found == [(500, 1.25)]


ODD_STORAGES = {
    "a way out": "UPDATE trials SET number = '../../../x', state = 'RUNNING'",
    "a setting that does not vary": "UPDATE trial_params SET param_name = 'run.dir'",
    "scores that are no numbers": "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
    """VALUES (1, 'scores', '{"1": "x"}')""",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END",
}


@pytest.mark.parametrize(
    "odd", [pytest.param(odd, marks=[pytest.mark.long] if "that" in odd else []) for odd in ODD_STORAGES]
)
def test_a_strangers_storage_holds_what_a_study_writes_or_is_refused(odd, tmp_path):
    _study(tmp_path).take(1)
    gc.collect()
    with closing(sqlite3.connect(tmp_path / "study" / "study.db")) as file:
        file.executescript(ODD_STORAGES[odd])
    with pytest.raises(UserError, match=r"study.db: no study that can be read"):
        _study(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_study_is_not_continued_through_links(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "study" / "trials").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="trials: a run folder must not contain symbolic links"):
        _study(tmp_path)
