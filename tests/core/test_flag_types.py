"""Flags whose values tyro would read otherwise: whole numbers such as 1e6, and JSON objects."""

from pathlib import Path

import pytest

from jaxpg.cli import parse_train
from jaxpg.config import dump, load_recipe
from jaxpg.core.errors import UserError


@pytest.mark.parametrize("text", ["1e6", "1_000_000", "1.0e+6", "1000000.0"])
def test_whole_numbers_may_be_written_as_floats(text: str, tmp_path: Path) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text(f"run:\n  budget_agent_steps: {text}\npolicy:\n  hidden: [1e2]\n")
    by_file = parse_train([str(recipe)]).config
    by_flags = parse_train(["--run.budget-agent-steps", text, "--policy.hidden", "1e2"]).config
    for config in (by_file, by_flags):
        assert (config.run.budget_agent_steps, config.policy.hidden) == (1_000_000, (100,))
        assert type(config.run.budget_agent_steps) is int


@pytest.mark.parametrize("text", ["2.5", "1e400", "nan", "1e-3"])
def test_fractions_are_no_whole_numbers(text: str) -> None:
    with pytest.raises(UserError, match=f"--run.budget-agent-steps: {text!r} is no whole number"):
        parse_train(["--run.budget-agent-steps", text])


def test_options_of_an_environment_stay_as_they_were_written(tmp_path):
    written = '{"gravity": -10.0, "desc": ["SF", "FG"], "deep": {"is_slippery": false, "n": 3}}'
    read = {"gravity": -10.0, "desc": ["SF", "FG"], "deep": {"is_slippery": False, "n": 3}}
    config = parse_train(["cartpole", "--env.options", written]).config
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump(config))
    for options in (config.env.options, load_recipe(recipe).env.options):
        assert options == read
        assert isinstance(options["gravity"], float), "an environment may not take a whole number for it"
    recipe.write_text("env: {options: {gravity: .nan}}\n")
    with pytest.raises(UserError, match=r"recipe.yaml:1:7: env.options: .*numbers must be finite"):
        load_recipe(recipe)
    for wrong in ("[1]", "{a", "size=3"):
        with pytest.raises(UserError, match="--env.options: .* is no JSON object such as"):
            parse_train(["cartpole", "--env.options", wrong])
