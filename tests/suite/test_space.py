"""Which settings vary in a search, and over which values."""

import pytest

from jaxpg.config import Config, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.suite.space import (
    Choice,
    Range,
    overrides_of,
    params_of,
    space_from_file,
    space_from_mapping,
    space_from_words,
)

CONFIG = Config()


def test_words_are_ranges_and_choices():
    words = [
        "optimizer.learning_rate=log:1e-4:1e-2",
        "reinforce.td-lambda=0.8:1.0",
        "env.num_lanes=16:64:16",
        "reinforce.epochs=1,2,3",
        "optimizer.name=adam,rmsprop",
        "policy.hidden=[200],[400, 200]",
        "reinforce.cut_at_reward=true,false",
    ]
    assert space_from_words(words, CONFIG) == {
        "optimizer.learning_rate": Range(1e-4, 1e-2, None, True, False),
        "reinforce.td_lambda": Range(0.8, 1, None, False, False),
        "env.num_lanes": Range(16, 64, 16, False, True),
        "reinforce.epochs": Choice((1, 2, 3)),
        "optimizer.name": Choice(("adam", "rmsprop")),
        "policy.hidden": Choice(([200], [400, 200])),
        "reinforce.cut_at_reward": Choice((True, False)),
    }


def test_a_file_means_the_same_as_words(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(
        "optimizer.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n"
        "reinforce.epochs: [1, 2, 3]\nenv.num_lanes: {low: 16, high: 64, step: 16}\npolicy.hidden: [[8], [8, 8]]\n"
    )
    words = ["optimizer.learning_rate=log:1e-4:1e-2", "reinforce.epochs=1,2,3", "env.num_lanes=16:64:16"]
    assert space_from_file(path, CONFIG) == space_from_words([*words, "policy.hidden=[8],[8, 8]"], CONFIG)


def test_parameters_become_settings_and_back():
    space = space_from_words(["policy.hidden=[200],[400, 200]", "reinforce.epochs=1:4"], CONFIG)
    settings = overrides_of(space, {"policy.hidden": "[400, 200]", "reinforce.epochs": 3})
    assert settings == {"policy.hidden": [400, 200], "reinforce.epochs": 3}
    changed = with_overrides(CONFIG, settings)
    assert (changed.policy.hidden, changed.reinforce.epochs) == ((400, 200), 3)
    assert params_of(space, changed) == {"policy.hidden": "[400, 200]", "reinforce.epochs": 3}


@pytest.mark.parametrize(
    ("word", "is_inside"),
    [
        ("optimizer.learning_rate=1e-4:1e-3", True),
        ("optimizer.learning_rate=1e-3:1e-2", False),
        ("env.num_lanes=16,32", True),
        ("env.num_lanes=17,33", False),
        ("optimizer.options.eps=1e-8:1e-3", False),
    ],
)
def test_a_recipe_outside_the_space_has_no_parameters(word, is_inside):
    config = with_overrides(CONFIG, {"optimizer.learning_rate": 5e-4, "env.num_lanes": 32})
    assert (params_of(space_from_words([word], config), config) is not None) == is_inside


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "space: nothing varies"),
        (["reinforce.epochs"], "'reinforce.epochs' is no setting with its values"),
        (["reinforce.epchs=1,2"], "space: reinforce.epchs: unknown key; did you mean 'reinforce.epochs'?"),
        (["reinforce.epochs=1,0"], "space: reinforce.epochs: input should be greater than or equal to 1, not 0"),
        (["reinforce.epochs=1:2.5"], "space: reinforce.epochs: input should be a valid integer"),
        (["reinforce.epochs=1:4:0.5"], "space: reinforce.epochs: step 0.5: the setting is a whole number"),
        (["optimizer.learning_rate=1e-2:1e-4"], "the range from 0.01 to 0.0001 is empty; the lower end comes first"),
        (["optimizer.learning_rate=1:1"], "is empty"),
        (["reinforce.entropy_bonus=log:0:1"], "a logarithmic range begins above 0, not at 0"),
        (["reinforce.td_lambda=0.5:1:0.9"], "step 0.9: it is above 0 and at most 0.5"),
        (["reinforce.td_lambda=log:0.5"], "a range is LOW:HIGH, LOW:HIGH:STEP or log:LOW:HIGH, not 'log:0.5'"),
        (["reinforce.td_lambda=low:1"], "a range has numbers at its ends, not 'low:1'"),
        (["reinforce.epochs=[1"], "are no values separated by commas"),
        (["reinforce.epochs=1", "reinforce.epochs=2"], "reinforce.epochs is given twice"),
        (["run.seed=1,2"], "space: run.seed: does not vary within a study; it has a flag of its own"),
        (["env.game=Pong,Pnog,[1]"], "space: env.game: input should be a valid string"),
    ],
)
def test_a_mistake_is_a_sentence(words, sentence):
    with pytest.raises(UserError) as error:
        space_from_words(words, CONFIG)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"reinforce.epochs": 3}, "give a list of values, or low and high, not 3"),
        ({"reinforce.epochs": []}, "no value to choose from"),
        ({"reinforce.epochs": {"low": 1, "hgih": 2}}, "a range has no 'hgih'; did you mean 'high'?"),
        ({"reinforce.epochs": {"low": 1}}, "high is a number, not None"),
        ({"reinforce.epochs": {"low": 1, "high": 2, "log": 1}}, "log is true or false, not 1"),
        ({"reinforce.td_lambda": {"low": 0.5, "high": 1, "log": True, "step": 0.1}}, "a logarithmic range has none"),
    ],
)
def test_a_mistake_in_a_mapping_is_a_sentence(content, sentence):
    with pytest.raises(UserError) as error:
        space_from_mapping(content, CONFIG)
    assert sentence in str(error.value)
