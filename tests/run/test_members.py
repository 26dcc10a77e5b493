"""Populations of gradient learners: each member is what a training alone would be, in every file and command."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.config import Config, load_recipe, load_run
from jaxpg.core.errors import UserError
from jaxpg.core.run_config import Member, RunConfig, members_of
from jaxpg.core.types import Episodes
from jaxpg.core.user_modules import NOBODY
from jaxpg.experiment import build
from jaxpg.report import _page
from jaxpg.run.run_progress import MemberProgress, RunProgress
from jaxpg.viewing.member_logs import by_member
from jaxpg.viewing.run_log import read_run
from jaxpg.viewing.views import number_runs
from tests.runs import games, records, run, summary, untimed

pytestmark = pytest.mark.usefixtures("quick_compilation")  # whatever is compared here is made under it
LANES, STEPS = 4, 16
PER_ITERATION = LANES * STEPS
ITERATIONS = 4
ARGV = [
    *("--env.backend", "gymnax", "--env.game", "CartPole-v1", "--env.num-lanes", str(LANES)),
    *("--observation.name", "vector", "--policy.hidden", "8", "--run.seed", "3", "--run.writers"),
    *("--reinforce.rollout-agent-steps", str(STEPS), "--reinforce.epochs", "2", "--reinforce.baseline", "value"),
    *("--reinforce.minibatch-agent-steps", "32", "--reinforce.td-lambda", "0.9"),
    *("--reinforce.normalize-observations", "--reinforce.normalize-value", "--optimizer.learning-rate", "0.01"),
    *("--run.schedule-agent-steps", str(2 * ITERATIONS * PER_ITERATION)),
]
SWEEP = '{"optimizer.learning_rate": [0.003, 0.03], "reinforce.discount": [0.8], "reinforce.clip_epsilon": [0.1]}'
POPULATION = ["--run.population", "2", "--run.sweep", SWEEP]
MEMBERS = [
    Member(seed, {"optimizer.learning_rate": rate, "reinforce.discount": 0.8, "reinforce.clip_epsilon": 0.1})
    for rate in (0.003, 0.03)
    for seed in (3, 4)
]


def budget(iterations: int) -> tuple[str, str]:
    return "--run.budget-agent-steps", str(iterations * PER_ITERATION)


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four members, which differ by the seed or by the learning rate."""
    folder = tmp_path_factory.mktemp("runs") / "population"
    run(*ARGV, *POPULATION, *budget(ITERATIONS), "--run.dir", str(folder))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What member 3 does, without the others."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    settings = ("--optimizer.learning-rate", "0.03", "--reinforce.discount", "0.8", "--reinforce.clip-epsilon", "0.1")
    run(*ARGV, *settings, "--run.seed", "4", *budget(ITERATIONS), "--run.dir", str(folder))
    return folder


def test_the_grid_has_all_seeds_of_each_combination(population: Path) -> None:
    assert members_of(load_run(str(population)).run) == MEMBERS
    assert members_of(RunConfig(seed=7, population=2)) == [Member(7, {}), Member(8, {})]
    assert members_of(RunConfig(seed=7)) == [Member(7, {})]


def test_a_member_is_a_training_alone(population: Path, alone: Path) -> None:
    """The same games to the letter, and the same numbers to rounding, in every iteration."""
    wanted_games, played = games(alone), [game for game in games(population) if game["member"] == "3"]
    assert [int(game["lane"]) - 3 * LANES for game in played] == [int(game["lane"]) for game in wanted_games]
    for name in ("agent_steps", "return", "length_agent_steps"):
        assert [game[name] for game in played] == [game[name] for game in wanted_games], name
    assert len(played) > ITERATIONS
    assert all(int(game["member"]) == int(game["lane"]) // LANES for game in games(population))
    for row, wanted in zip(untimed(records(population)), untimed(records(alone)), strict=True):
        assert row["agent_steps"] == wanted["agent_steps"]
        for name in ("episodes", "return_mean_100", "policy_loss", "entropy", "kl", "weight_norm", "learning_rate"):
            assert row[f"{name}/3"] == pytest.approx(wanted[name], rel=1e-3, abs=1e-5), name
    params, wanted_params = (
        jaxpg.load_policy(folder, member=member).params for folder, member in ((population, 3), (alone, None))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), params, wanted_params)
    other = jaxpg.load_policy(population, member=1).params
    assert not np.allclose(jax.tree.leaves(other)[-1], jax.tree.leaves(params)[-1], rtol=1e-2), "another rate"


def test_a_single_run_is_as_ever(alone: Path) -> None:
    assert "member" not in games(alone)[0]
    assert not any("/" in name or "member" in name for name in records(alone)[-1])
    assert "members" not in summary(alone)


def test_the_records_have_the_mean_and_the_best(population: Path, alone: Path) -> None:
    row = records(population)[-1]
    returns = [row[f"return_mean_100/{member}"] for member in range(4)]
    assert row["return_mean_100"] == pytest.approx(np.mean(returns))
    assert row["best_member_return"] == max(returns) == returns[row["best_member"]]
    assert row["policy_loss"] == pytest.approx(np.mean([row[f"policy_loss/{member}"] for member in range(4)]))
    assert row["episodes"] == sum(row[f"episodes/{member}"] for member in range(4)) == len(games(population))
    assert [one["return_mean_100"] for one in summary(population)["members"]] == returns


def test_a_population_that_is_interrupted_is_the_same_to_the_bit(population: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "parts"
    run(*ARGV, *POPULATION, *budget(1), "--run.dir", str(folder))
    said = capsys.readouterr().out
    assert "4 members of 4 lanes" in said
    assert "best_member_return=" in said
    run("--resume", str(folder), "--run.population", "3", code=2)
    assert "this run has 4 members, and cannot go on with 6 members" in capsys.readouterr().err
    run("--resume", str(folder), *budget(ITERATIONS))
    assert untimed(records(folder)) == untimed(records(population))
    assert untimed(games(folder)) == untimed(games(population))
    for member in range(4):
        ours, theirs = (jaxpg.load_policy(one, member=member).params for one in (folder, population))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_commands_take_the_best_member_or_the_one_that_is_asked_for(
    population: Path, alone: Path, tmp_path: Path, capsys
) -> None:
    best = records(population)[-1]["best_member"]
    first, third = jaxpg.evaluate(population, 3), jaxpg.evaluate(population, 3, member=3)
    said = capsys.readouterr().out
    assert f"checkpoint {ITERATIONS}: member {best} of 4 is taken, the best by its mean return of" in said
    assert f"checkpoint {ITERATIONS}, member 3: 3 games" in said
    assert (first.member, third.member) == (best, 3)
    assert third.returns == jaxpg.evaluate(alone, 3).returns
    exported = [
        jaxpg.export(run, out=tmp_path / run.name, member=member) for run, member in ((population, 3), (alone, None))
    ]
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    ours, wanted = (jax.export.deserialize(path.read_bytes()).call(observations)[1] for path in exported)
    np.testing.assert_allclose(ours, wanted, rtol=1e-3)
    for folder, member, sentence in ((population, 4, "from 0 to 3, not 4"), (alone, 0, "no population; leave it out")):
        with pytest.raises(UserError, match=f"member: .*{sentence}"):
            jaxpg.load_policy(folder, member=member)


def test_the_report_has_a_curve_for_each_member(population: Path, alone: Path, tmp_path: Path) -> None:
    logs = by_member(read_run(str(population)))
    assert len(logs) == 4
    assert [one.group.partition(", ")[2] for one in number_runs(logs)][1:3] == [
        "optimizer.learning_rate 0.003, seeds 3, 4",
        "optimizer.learning_rate 0.03, seeds 3, 4",
    ]
    (wanted,) = by_member(read_run(str(alone)))
    assert replace(logs[3].config, run=replace(logs[3].config.run, dir="")) == replace(
        wanted.config, run=replace(wanted.config.run, dir="")
    )
    returns = [[record["return_mean_100"] for record in log.records] for log in (logs[3], wanted)]
    assert returns[0] == returns[1]
    assert logs[3].records[-1].keys() ^ wanted.records[-1].keys() == {"discount", "clip_epsilon"}, "what is swept"
    assert [game.episode_return for game in logs[3].games] == [game.episode_return for game in wanted.games]
    assert logs[3].checkpoints[-1].return_mean_100 == wanted.checkpoints[-1].return_mean_100
    whole = records(population)[-1]
    assert sum(log.records[-1]["learn_seconds"] for log in logs) == pytest.approx(whole["learn_seconds"])
    page = jaxpg.report([population], tmp_path / "report.html").read_text()
    for shown in (page, _page([str(population)], NOBODY)):  # the page in a file, and the one that --serve shows
        assert "population, member 3: learning_rate 0.03, discount 0.8, clip_epsilon 0.1, seed 4" in shown


def config_of(folder: Path, **run_settings) -> Config:
    config = load_recipe(folder / "config.yaml")
    return replace(config, run=replace(config.run, **{"population": 0, "sweep": {}, **run_settings}))


def test_what_cannot_be_a_population_is_refused(population: Path) -> None:
    two, too_much = config_of(population, population=2), (0.9, 2.0)
    on_host = replace(two, env=replace(two.env, backend="envpool"))
    refused = {
        "run.population: side by side train only environments in JAX": on_host,
        "run.population: is for gradient learners .reinforce.": with_learner(two, "evolution"),
        "run.sweep: policy.hidden cannot differ": config_of(population, sweep={"policy.hidden": (8.0, 16.0)}),
        "run.sweep: .* two members or more, not 1": config_of(population, sweep={"reinforce.discount": (0.9,)}),
        "run.sweep: .* two members or more, not 0": config_of(population, sweep={"reinforce.discount": ()}),
        "run.sweep: .* make 4096 members; 1024 at most": config_of(
            population, sweep={"reinforce.discount": (0.5,) * 64, "reinforce.td_lambda": (0.5,) * 64}
        ),
        "run.seed: the last member has the seed 2147483648": config_of(population, population=2, seed=2**31 - 1),
        "reinforce.discount: .*less than or equal to 1": config_of(population, sweep={"reinforce.discount": too_much}),
        "run.population: the run needs about .*for each of 1024 members": huge(config_of(population, population=1024)),
    }
    for sentence, config in refused.items():
        with pytest.raises(UserError, match=sentence):
            build(config)


def with_learner(config: Config, name: str) -> Config:
    return replace(config, run=replace(config.run, learner=name))


def huge(config: Config) -> Config:
    return replace(config, reinforce=replace(config.reinforce, rollout_agent_steps=2**22, minibatch_agent_steps=0))


def test_the_score_is_the_best_members_and_the_target_every_members() -> None:
    progress = RunProgress(members=[MemberProgress(), MemberProgress()])
    assert progress.score("") is None
    for total, lane in ((1.0, 0), (3.0, 2)):
        columns = (np.zeros(100), np.full(100, lane), np.zeros(100), np.full(100, total), np.full(100, 5))
        progress.count_all([{"entropy": 1.0}, {"entropy": 2.0}], Episodes(*columns), lanes_of_member=2)
    assert (progress.score(""), progress.best_member, progress.return_mean_100) == (3.0, 1, 2.0)
    assert progress.has_reached(1.0)
    assert not progress.has_reached(2.0)
    assert progress.is_notably_best("")
    assert (progress.episodes, progress.fewest_episodes, progress.metrics) == (200, 100, {"entropy": 1.5})
