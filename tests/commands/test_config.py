"""The configuration: what is written reads back the same, and every mistake is one sentence with its place."""

import dataclasses
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from jaxpg.cli import open_recipe
from jaxpg.config import (
    Change,
    CheckpointConfig,
    Config,
    RunConfig,
    changes,
    check,
    dump,
    load_hashes,
    load_history,
    load_recipe,
)
from jaxpg.core.errors import MAX_SENTENCE, UserError
from jaxpg.core.strict_yaml import MAX_DEPTH, MAX_RECIPE_BYTES
from jaxpg.envs.config import EnvConfig
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from jaxpg.run.run_folder import write_config, write_resumed_config


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe and returns its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refusal(path: Path) -> str:
    """The sentence with which a recipe is refused, without the path in front of it."""
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path))


VARIED = {
    "defaults": Config(),
    "small float": Config(optimizer=OptimizerConfig(learning_rate=1e-05)),
    "tiny and huge float": Config(optimizer=OptimizerConfig(learning_rate=5e-324, max_gradient_norm=1.7e308)),
    "long float": Config(reinforce=ReinforceConfig(discount=0.1 + 0.2)),
    "whole float": Config(run=RunConfig(target_return=18.0)),
    "negative target": Config(run=RunConfig(target_return=-20.5)),
    "no target": Config(run=RunConfig(target_return=None)),
    "large seed": Config(run=RunConfig(seed=2**31 - 1, budget_agent_steps=2**53)),
    "actions": Config(env=EnvConfig(actions=(0, 2, 3))),
    "names of actions": Config(env=EnvConfig(actions=("UP", 3, "DOWNLEFTFIRE"))),
    "deep network": Config(policy=PolicyConfig(hidden=(64, 64, 8), bias=False)),
    "no hidden layer": Config(policy=PolicyConfig(hidden=())),
    "options": Config(optimizer=OptimizerConfig(name="rmsprop", options={"eps": 1e-05, "decay": 0.99})),
    "saves": Config(checkpoint=CheckpointConfig(every_iterations=0, every_seconds=0.5, keep_every=7, keep_newest=3)),
    "observation": Config(observation=ObservationConfig(name="ram", background=(), gain=0.25)),
    "switches": Config(env=EnvConfig(maxpool=False, fire_reset=False, full_action_space=True, resize="bilinear")),
    **{
        f"name {name!r}": Config(run=RunConfig(dir=name))
        for name in ("läufe/πong 🎮", "yes", "null", "~", "1e-3", "0x10", "2020-01-01", "1:30", "a: b", "# no", "- x")
    },
    **{
        f"text {name!r}": Config(run=RunConfig(dir=name))
        for name in ("'", '"', " a ", "a\nb", "a\\nb", "\t", "*a", "&a", "!a", "%", "{", "[1]", "long " * 60)
    },
}


@pytest.mark.parametrize("config", VARIED.values(), ids=VARIED.keys())
def test_dump_then_load_gives_the_same_configuration(config, recipe):
    loaded = load_recipe(recipe(dump(config)))
    assert loaded == config
    assert repr(loaded) == repr(config)  # an int in the place of a float is equal, but not the same


def test_dump_names_every_field_and_nothing_else():
    keys = re.findall(r"^( *)(\w+):", dump(Config()), re.MULTILINE)
    sections = {f.name: f.type for f in dataclasses.fields(Config)}
    inner = [section for section in sections.values() if dataclasses.is_dataclass(section)]
    fields = [f.name for section in inner for f in dataclasses.fields(section)]
    assert [name for indent, name in keys if not indent] == list(sections)
    assert [name for indent, name in keys if indent] == fields


@pytest.mark.parametrize("content", ["", "# only a comment\n", "{}\n", "---\n", "\ufeff"])
def test_an_empty_recipe_means_the_defaults(content, recipe):
    assert load_recipe(recipe(content)) == Config()


def test_a_section_whose_settings_are_all_commented_out_has_their_defaults(recipe):
    assert load_recipe(recipe("run:\n#  seed: 3\nenv:\n  num_lanes: 8\n")) == Config(env=EnvConfig(num_lanes=8))


def test_a_byte_order_mark_and_line_ends_of_windows_change_nothing(recipe):
    assert load_recipe(recipe("\ufeffrun:\r\n  seed: 3\r\n")).run.seed == 3


def test_a_recipe_changes_only_what_it_names(recipe):
    loaded = load_recipe(recipe("env:\n  game: Breakout\noptimizer: {options: {eps: 1}}\n"))
    assert loaded == Config(env=EnvConfig(game="Breakout"), optimizer=OptimizerConfig(options={"eps": 1.0}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("env:\n  gmae: Pong\n", ":2:3: env.gmae: unknown key; did you mean 'game'?"),
        ("run:\n  seed: 1\nevn:\n  game: Pong\n", ":3:1: evn: unknown key; did you mean 'env'?"),
        ("env: {game: Pong, lanes: 8}\n", ":1:19: env.lanes: unknown key; did you mean 'num_lanes'?"),
        (
            "checkpoint:\n  zzz: 1\n",
            ":2:3: checkpoint.zzz: unknown key; valid names are every_iterations, every_seconds, keep_every,",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_name(content, sentence, recipe):
    assert refusal(recipe(content)).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("env:\n  num_lanes: '8'\n", ":2:3: env.num_lanes: input should be a valid integer, not '8'"),
        ("env:\n  num_lanes: 8.5\n", ":2:3: env.num_lanes: input should be a valid integer, not 8.5"),
        ("env:\n  num_lanes: true\n", ":2:3: env.num_lanes: input should be a valid integer, not True"),
        ("env:\n  game: 3\n", ":2:3: env.game: input should be a valid string, not 3"),
        ("env:\n  game: [Pong]\n", ":2:3: env.game: input should be a valid string"),
        ("env:\n  maxpool: 1\n", ":2:3: env.maxpool: input should be a valid boolean, not 1"),
        ("env:\n  maxpool: yes\n", ":2:3: env.maxpool: input should be a valid boolean, not 'yes'"),
        ("env:\n  actions: [0, 1.5]\n", ":2:16: env.actions.1: input should be a valid integer, not 1.5"),
        (
            "optimizer:\n  options:\n    eps: x\n",
            ":3:5: optimizer.options.eps: input should be a valid number, not 'x'",
        ),
        ("optimizer:\n  learning_rate: fast\n", ":2:3: optimizer.learning_rate: input should be a valid number"),
        ("env: Pong\n", ":1:1: env: input should be a mapping of settings, not 'Pong'"),
        ("env:\n  actions: LEFT\n", ":2:3: env.actions: input should be a list, not 'LEFT'"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(content, sentence, recipe):
    assert refusal(recipe(content)).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "env:\n  game: Pong\n  num_lanes: 0\n",
            ":3:3: env.num_lanes: input should be greater than or equal to 1, not 0",
        ),
        ("env: {num_lanes: 65537}", ":1:7: env.num_lanes: input should be less than or equal to 65536, not 65537"),
        ("run: {seed: -1}", ":1:7: run.seed: input should be greater than or equal to 0, not -1"),
        ("run: {seed: 2147483648}", ":1:7: run.seed: input should be less than 2147483648, not 2147483648"),
        ("optimizer: {learning_rate: 0}", ":1:13: optimizer.learning_rate: input should be greater than 0, not 0"),
        ("reinforce: {discount: 1.01}", ":1:13: reinforce.discount: input should be less than or equal to 1, not 1.01"),
        (
            "policy:\n  hidden:\n    - 64\n    - 0\n",
            ":4:7: policy.hidden.1: input should be greater than or equal to 1",
        ),
        ("env: {num_threads: 1025}", ":1:7: env.num_threads: input should be less than or equal to 1024, not 1025"),
        ("env: {num_pools: 1025}", ":1:7: env.num_pools: input should be less than or equal to 1024, not 1025"),
        ("env: {noop_max: 10001}", ":1:7: env.noop_max: input should be less than or equal to 10000, not 10001"),
        (f"env: {{actions: {list(range(19))}}}", ":1:7: env.actions: tuple should have at most 18 items"),
        (f"policy: {{hidden: {[1] * 65}}}", ":1:10: policy.hidden: tuple should have at most 64 items"),
        ("env: {resize: cubic}", ":1:7: env.resize: input should be 'area' or 'bilinear', not 'cubic'"),
        ("checkpoint: {keep_newest: 0}", ":1:14: checkpoint.keep_newest: input should be greater than or equal to 1"),
        (
            "optimizer: {learning_rate: .nan}",
            ":1:13: optimizer.learning_rate: input should be a finite number, not nan",
        ),
        (
            "optimizer: {learning_rate: .inf}",
            ":1:13: optimizer.learning_rate: input should be a finite number, not inf",
        ),
        ("run: {target_return: .nan}", ":1:7: run.target_return: input should be a finite number, not nan"),
        ("optimizer: {options: {eps: .nan}}", ":1:23: optimizer.options.eps: input should be a finite number, not nan"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place(content, sentence, recipe):
    assert refusal(recipe(content)).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("env:\n  game: Pong\n  game: Pong\n", ":3:3: not YAML: found duplicate key"),
        ("env: {game: Pong}\nenv: {game: Pong}\n", ":2:1: not YAML: found duplicate key"),
        ("env: [1, 2\n", ":2:1: not YAML: expected ',' or ']'"),
        ("env:\n\tgame: Pong\n", ":2:1: not YAML: found character"),
        ("env: {}\n---\nrun: {}\n", ":2:1: not YAML: but found another document"),
        ("env: {game: 'Pong}\n", "not YAML: found unexpected end of stream"),
        ("env: \x00\n", ": not YAML: unacceptable character #x0000"),
        ("run: {seed: " + "9" * 5000 + "}", ": not YAML: "),
        ("- env\n", ": a recipe is a mapping of sections such as 'env:', not a list"),
        ("hello\n", ": a recipe is a mapping of sections such as 'env:', not a single value"),
        ("env: {game: 2020-01-01}\n", ":1:7: env.game: a value is no text, number, list or mapping: "),
        ("env: {actions: [1, 2020-01-01]}\n", ":1:20: env.actions.1: a value is no text, number, list or mapping: "),
        ("env:\n  ? [a, b]\n  : 1\n", ":1:1: env: a value is no text, number, list or mapping: "),
        ("env: {maxpool: !!bool x}\n", ": not YAML: a key or a tagged value is of a wrong kind: 'x'"),
        ("? [[a]]\n: 1\n", ": not YAML: a key or a tagged value is of a wrong kind: unhashable"),
        ("? [a, b]\n: 1\n", ": a value is no text, number, list or mapping: "),
        ('env: {game: "\\ud800"}\n', ": a text is not Unicode, or values are nested too deep"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_refused(content, sentence, recipe):
    assert sentence in refusal(recipe(content))


@pytest.mark.parametrize(
    "content",
    [
        "env:\n  game: !!python/object/apply:os.system ['touch {canary}']\n",
        "!!python/object/apply:os.system ['touch {canary}']\n",
        "env:\n  game: !!python/object/new:os.system ['touch {canary}']\n",
        "env:\n  game: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{canary}']]\n",
        "env:\n  game: !!python/name:os.system\n",
        "env:\n  game: !surprise Pong\n",
    ],
)
def test_a_tag_is_refused_and_runs_nothing(content, recipe, tmp_path):
    canary = tmp_path / "canary"
    refusal(recipe(content.replace("{canary}", str(canary))))
    assert not canary.exists()


@pytest.mark.parametrize("content", ["%YAML 1.1\n---\noptimizer: {learning_rate: 1e-3}\n", "env: &a {}\nrun: &a {}\n"])
def test_the_reader_says_nothing_of_its_own(content, recipe):
    assert isinstance(load_recipe(recipe(content)), Config)  # where warnings are errors


@pytest.mark.parametrize("key", ["a\nb", "a\x1b[31mb", "a\u2028b", "\u202eb"])
def test_a_strange_key_breaks_no_line_and_paints_no_terminal(key, recipe):
    assert refusal(recipe(f"run: {{{json.dumps(key)}: 1}}\n")).isprintable()


def test_a_long_key_is_shortened(recipe):
    sentence = refusal(recipe(f"? {'x' * 50_000}\n: 1\n"))
    assert len(sentence) <= MAX_SENTENCE + 5
    assert sentence.startswith(":1:3: xxx")
    assert sentence.endswith("random_search, reinforce, run")


def test_options_whose_flags_would_be_one_are_refused(recipe):
    options = recipe("optimizer: {options: {e_ps: 1, e-ps: 1}}\n")
    assert refusal(options).startswith(":1:32: optimizer.options.e-ps.[key]: string should match pattern")


@pytest.mark.parametrize("opening", ["{", "[", "- ", "? "])
def test_depth_is_refused_at_its_place_in_time(opening, recipe):
    column = 1 + MAX_DEPTH * len(opening)
    began = time.process_time()
    assert refusal(recipe(opening * 40_000)) == f":1:{column}: nested too deep; a recipe is sections of settings"
    assert time.process_time() - began < 2


@pytest.mark.parametrize("content", ["env: " + "[" * 1500, "env: " + "[" * 250 + "]" * 250, "env: {a: " * 1500])
def test_deep_nesting_is_refused(content, recipe):
    assert refusal(recipe(content))


def test_aliases_are_refused_before_they_expand(recipe):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 6))
    assert refusal(recipe(bomb)) == ":2:10: a recipe has no aliases; write *a0 out"
    assert "no aliases" in refusal(recipe("env: &e {game: *e}\n"))


def test_a_recipe_that_is_not_utf8_is_refused(recipe):
    assert refusal(recipe(b"env: {game: P\xffng}\n")) == ": the recipe is not UTF-8 text (byte 13)"


def test_a_huge_recipe_is_refused_unread(recipe):
    assert load_recipe(recipe("#" * MAX_RECIPE_BYTES)) == Config()
    assert refusal(recipe("#" * (MAX_RECIPE_BYTES + 1))) == ": a recipe may have at most 100000 bytes"
    with pytest.raises(UserError, match="this is no regular file"):
        load_recipe(Path("/dev/zero"))  # endless, and of size 0 for stat


def test_a_missing_recipe_is_refused_with_the_nearest_file(tmp_path):
    (tmp_path / "pong.yaml").touch()
    (tmp_path / "breakout.yaml").touch()
    assert (
        refusal(tmp_path / "pnog.yaml")
        == ": cannot read the recipe: No such file or directory; did you mean 'pong.yaml'?"
    )
    assert refusal(tmp_path / "none" / "pong.yaml") == ": cannot read the recipe: No such file or directory"


def test_a_folder_is_no_recipe(tmp_path):
    assert refusal(tmp_path) == ": cannot read the recipe: Is a directory"


def test_check_names_the_setting_of_a_wrong_flag():
    with pytest.raises(UserError, match=r"^env\.num_lanes: input should be greater than or equal to 1, not 0$"):
        check(Config(env=EnvConfig(num_lanes=0)))
    with pytest.raises(UserError, match=r"^command line: a text is not Unicode"):
        check(Config(run=RunConfig(dir="\udcff")))
    assert check(VARIED["options"]) == VARIED["options"]


def test_every_setting_is_frozen():
    config = Config()
    parts = [config, *(part for part in vars(config).values() if dataclasses.is_dataclass(part))]
    assert len(parts) == 10
    for part in parts:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


def test_the_history_of_resumes_is_written_and_read_and_no_part_of_the_configuration(tmp_path):
    before = Config(env=EnvConfig(actions=(2, 3)))
    after = Config(env=EnvConfig(actions=(1, 2), num_lanes=8), run=RunConfig(target_return=5.0))
    assert [(one.setting, one.before, one.after) for one in changes(before, after, 640)] == [
        ("run.target_return", None, 5.0),
        ("env.num_lanes", before.env.num_lanes, 8),
        ("env.actions", (2, 3), (1, 2)),
    ]
    write_config(tmp_path, before)
    write_resumed_config(tmp_path, after, 640)
    write_resumed_config(tmp_path, after, 700)
    path = tmp_path / "config.yaml"
    assert load_recipe(path) == after
    assert [one.agent_steps for one in load_history(path)] == [640] * 3
    write_resumed_config(tmp_path, before, 800)
    assert [(one.setting, one.after) for one in load_history(path)][3:] == [
        ("run.target_return", None),
        ("env.num_lanes", before.env.num_lanes),
        ("env.actions", [2, 3]),
    ]


def test_a_long_history_loses_its_oldest_changes_and_is_still_read(tmp_path):
    many = [Change(agent_steps=i, setting="run.budget_agent_steps", before=i, after=i + 1) for i in range(120)]
    write_config(tmp_path, Config(), many)
    assert load_history(tmp_path / "config.yaml") == many[20:]


RECORDS = {
    "history": ["yes", "[1]", "{a: 1}", "[{agent_steps: x}]", "[{more: 1}]", "2020-01-01"],
    "imports_sha256": ["yes", "[1]", "{a: 1}", "{1: a}"],
}
"""What somebody may write into the sections that jaxpg keeps."""
WHAT_THEY_ARE = {
    "history": "a list of changes, each with agent_steps",
    "imports_sha256": "a mapping of imports to hashes",
}


@pytest.mark.parametrize(("section", "edited"), [(name, text) for name, texts in RECORDS.items() for text in texts])
def test_a_record_that_was_edited_to_something_else_is_a_sentence(section, edited, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"env: {{game: Pong}}\n{section}: {edited}\n")
    with pytest.raises(UserError, match=rf"config\.yaml:2:1: {section}: {WHAT_THEY_ARE[section]}"):
        load_recipe(path)
    path.write_text(f"{section}:\n")
    assert (load_recipe(path), load_history(path), load_hashes(path)) == (Config(), [], {})


def test_overrides_may_be_nested_and_keep_what_they_do_not_name():
    nested = open_recipe("cartpole", {"run": {"seed": 3}, "env": {"num_lanes": 8}})
    assert nested == open_recipe("cartpole", {"run.seed": 3, "env.num_lanes": 8})
    assert nested.run.target_return == 495


def test_overrides_may_be_numpys_numbers_and_paths():
    overrides = {"run.seed": np.int64(3), "run.dir": Path("runs/x"), "policy.hidden": np.array([8, 4])}
    config = open_recipe("cartpole", {**overrides, "optimizer.learning_rate": np.float64(0.25)})
    assert (config.run.seed, config.run.dir, config.policy.hidden) == (3, "runs/x", (8, 4))
    assert config.optimizer.learning_rate == 0.25
    with pytest.raises(UserError, match=r"^run\.seed: a value is no text, number, list or mapping"):
        open_recipe("cartpole", {"run.seed": object()})
    with pytest.raises(
        UserError, match=r"^imports: a list of modules and files, such as \['./mine.py'\], not the text"
    ):
        open_recipe("cartpole", {"imports": "./mine.py"})
