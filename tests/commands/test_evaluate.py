"""``python -m jaxpg.evaluate`` on a real run's folder."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg.evaluate as evaluate_module
from jaxpg.cli import parse
from jaxpg.config import load_run
from jaxpg.core.errors import UserError
from jaxpg.evaluate import EvaluateArguments, main
from jaxpg.experiment import Player, build
from jaxpg.kernel.whole_episodes import play_episodes
from jaxpg.run.saved_run import restore_params
from jaxpg.scores.evaluation_file import read_evaluations
from jaxpg.scores.fingerprints import Fingerprinted
from tests.runs import games, nobody_reads_stdout


@pytest.fixture
def folder(uninterrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(uninterrupted, tmp_path / "run"))


def _evaluate(*argv: str | Path, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert end.value.code == code


def _entries(folder: Path) -> list[dict]:
    return json.loads((folder / "evaluation.json").read_text())


def test_exactly_so_many_whole_games_are_played_and_summarised(folder: Path, capsys: pytest.CaptureFixture) -> None:
    _evaluate(folder, "--episodes", "30")
    [entry] = _entries(folder)
    assert (entry["distinct"], entry["cut"]) == (30, 0)
    returns = np.array(entry["returns"])
    assert entry["episodes"] == returns.size == 30
    assert entry["lengths_agent_steps"] == entry["returns"], "CartPole gives 1 an agent step"
    assert entry["agent_steps"] == returns.sum()
    assert entry["mean"] == returns.mean()
    assert entry["mean_low"] < entry["mean"] < entry["mean_high"]
    assert (entry["min"], entry["max"]) == (returns.min(), returns.max())
    assert entry["actions"] == "sampled", "as REINFORCE took them"
    assert entry["checkpoint"] == 20
    said = capsys.readouterr().out.splitlines()
    first, numbers = (line for line in said if not line.startswith("games="))  # progress, on a busy machine
    assert "30 games of CartPole-v1 on envpool, sampled actions, 4 lanes" in first
    assert dict(pair.split("=") for pair in numbers.split())["episodes"] == "30"


def test_games_are_a_function_of_seed_and_policy(folder: Path) -> None:
    with nobody_reads_stdout():
        _evaluate(folder, "--episodes", "8")
    first = _entries(folder)[0]["returns"]
    _evaluate(folder, "--episodes", "8")
    assert [entry["returns"] for entry in _entries(folder)] == [first], "in place of the older one"
    _evaluate(folder, "--episodes", "8", "--seed", "5")
    _evaluate(folder, "--episodes", "8", "--actions", "greedy")
    _evaluate(folder, "--episodes", "8", "--checkpoint", "15")
    _evaluate(folder, "--episodes", "8", "--env.num-lanes", "2")
    entries = _entries(folder)
    assert [entry["seed"] for entry in entries] == [0, 5, 0, 0, 0]
    assert [entry["actions"] for entry in entries] == ["sampled", "sampled", "greedy", "sampled", "sampled"]
    assert [entry["checkpoint"] for entry in entries] == [20, 20, 20, 15, 20]
    assert [entry["env"]["num_lanes"] for entry in entries] == [4, 4, 4, 4, 2]
    assert len({tuple(entry["returns"]) for entry in entries if entry["checkpoint"] == 20}) == 4


def test_random_actions_are_all_alike_whatever_the_policy_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    taken: list[int] = []

    class Counting(Fingerprinted):
        def send(self, actions: np.ndarray) -> None:
            taken.extend(actions.tolist())
            super().send(actions)

    def certain(folder, experiment, *which):
        restored = restore_params(folder, experiment, *which)
        params = jax.tree.map(jnp.zeros_like, restored.params)
        params["heads"]["logits"]["bias"] = jnp.array([50.0, 0.0])  # such a policy takes the first action alone
        logits, _ = experiment.policy.apply(params, jnp.ones(4))
        np.testing.assert_array_equal(logits, [50, 0])
        return restored._replace(params=params)

    monkeypatch.setattr(evaluate_module, "restore_params", certain)
    monkeypatch.setattr(evaluate_module, "Fingerprinted", Counting)
    _evaluate(folder, "--episodes", "12", "--actions", "random")
    counts = np.bincount(taken, minlength=2)
    assert counts.sum() > 200
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.sum()) / 2, "five standard deviations of a coin"
    assert "12 games of CartPole-v1 on envpool, random actions" in capsys.readouterr().out
    assert _entries(folder)[0]["actions"] == "random"
    assert read_evaluations(folder / "evaluation.json")[0].is_baseline


def test_a_seed_decides_on_the_emulators_and_on_the_actions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def returns(seed: int, actions: str) -> list[float]:
        _evaluate(folder, "--episodes", "8", "--seed", seed, "--actions", actions)
        return _entries(folder)[-1]["returns"]

    assert returns(0, "greedy") != returns(5, "greedy"), "other games"
    monkeypatch.setattr(evaluate_module, "lane_seeds", lambda seed, segment, num_lanes: np.arange(num_lanes))
    assert returns(0, "greedy") == returns(5, "greedy")
    assert returns(0, "sampled") != returns(5, "sampled"), "other actions in the same games"


def test_a_checkpoint_is_chosen_by_number_age_or_return(folder: Path) -> None:
    config = load_run(str(folder))
    experiment = build(config, Player(config.env))
    returns = np.array([float(game["return"]) for game in games(folder)])
    ends = np.array([int(game["agent_steps"]) for game in games(folder)])
    means = {i: returns[ends <= i * 32][-100:].mean() for i in (15, 20)}
    newest, iteration, *_ = restore_params(folder, experiment, "latest")
    assert iteration == 20
    older, iteration, *_ = restore_params(folder, experiment, "15")
    assert iteration == 15
    assert not jnp.array_equal(*(jax.tree.leaves(params)[0] for params in (newest, older)))
    assert restore_params(folder, experiment, "best")[1] == max(means, key=means.__getitem__)
    experiment.rollout.close()


def test_a_run_that_is_being_written_is_left_alone(folder: Path) -> None:
    unfinished = folder / "checkpoints" / "25.orbax-checkpoint-tmp"
    unfinished.mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    _evaluate(folder, "--episodes", "2")
    assert unfinished.is_dir()
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {folder / "evaluation.json", folder / "evaluation.json.lock"}
    assert all(after[path] == before[path] for path in before)


def test_games_are_reported_as_they_end(folder: Path) -> None:
    config = load_run(str(folder))
    experiment = build(config, Player(config.env))
    params, *_ = restore_params(folder, experiment, "latest")
    experiment.rollout.reset(np.arange(4))
    told: list[int] = []
    episodes = play_episodes(experiment.rollout, params, 12, jax.random.key(0), told.append)
    experiment.rollout.close()
    assert sum(told) == episodes.lane.size == 12


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "which run? give its folder, such as runs/mine"),
        (("nowhere",), "nowhere: no run: there is no such folder"),
        (("RUN", "--checkpoint", "7"), "no checkpoint of iteration 7; saved iterations are 15, 20"),
        (("RUN", "--checkpoint", "newest"), "checkpoint: 'newest' is no iteration, nor 'latest' or 'best'"),
        (("RUN", "--episodes", "0"), "episodes: at least 1, not 0"),
        (("RUN", "--seed", "-1"), "seed: from 0 to 2147483647, not -1"),
        (("RUN", "--episode", "3"), "unknown flag --episode; did you mean '--episodes'?"),
        (("RUN", "other"), "unexpected argument 'other'; give one run folder, then flags"),
        (("RUN", "--env.game", "CartPol-v1"), "env.game: unknown name 'CartPol-v1'; did you mean 'CartPole-v1'?"),
        (("RUN", "--env.game", "Acrobot-v1"), "env.game: the policy was trained on CartPole-v1, and the numbers of"),
        (("RUN", "--env.num-lanes", "0"), "env.num_lanes"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture, argv: tuple[str, ...], message: str
) -> None:
    _evaluate(*(str(folder) if part == "RUN" else part for part in argv), code=2)
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("jaxpg: ")
    assert said.count("\n") == 1
    assert not (folder / "evaluation.json").exists()


def test_a_run_without_a_checkpoint_says_so(folder: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(folder / "checkpoints")
    _evaluate(folder, code=2)
    assert capsys.readouterr().err == f"jaxpg: {folder}: no checkpoint yet\n"


@pytest.mark.parametrize("damage", ["[{]", "{}", '[{"checkpoint": 1}]', "[1]"])
def test_a_damaged_file_of_evaluations_is_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture, damage: str
) -> None:
    (folder / "evaluation.json").write_text(damage)
    _evaluate(folder, code=2)
    assert "damaged; move it away" in capsys.readouterr().err
    assert (folder / "evaluation.json").read_text() == damage


def test_games_that_repeat_and_games_that_are_cut_are_counted_and_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Four lanes with two seeds between them, most probable actions, and a limit that all games reach."""
    monkeypatch.setattr(evaluate_module, "lane_seeds", lambda seed, segment, num_lanes: np.arange(num_lanes) // 2)
    limit = ("--env.max-episode-agent-steps", "5")
    _evaluate(folder, "--episodes", "8", "--actions", "greedy", *limit)
    [entry] = _entries(folder)
    assert (entry["episodes"], entry["distinct"], entry["cut"], entry["mean"]) == (8, 4, 8, 5.0)
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("episodes=8 distinct=4 cut=8 mean=5 ")
    assert said[2].startswith("jaxpg: 4 of the 8 games are different ones; ")
    assert said[3:] == ["jaxpg: the time limit cut 8 of the games"]


def test_a_folder_that_cannot_be_written_is_noticed_before_the_games(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(evaluate_module, "play_episodes", None)
    (folder / "evaluation.json.lock").mkdir()
    _evaluate(folder, code=2)
    assert "evaluation.json: cannot be written: Is a directory" in capsys.readouterr().err


def test_a_disk_that_is_full_at_the_end_costs_no_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(path: Path, evaluation: object) -> None:
        raise UserError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(evaluate_module, "add_evaluation", full)
    _evaluate(folder, "--episodes", "4", code=2)
    said = capsys.readouterr()
    assert "mean=" in said.out
    assert "No space left on device" in said.err


def test_flags_are_read_over_the_runs_own_protocol(folder: Path) -> None:
    env = load_run(str(folder)).env
    arguments = parse("evaluate", ["x", "--env.num-lanes", "2"], EvaluateArguments(env=env))
    assert (arguments.env.game, arguments.env.num_lanes) == ("CartPole-v1", 2)
    with pytest.raises(UserError, match="did you mean '--env.game'"):
        parse("evaluate", ["x", "--env.gmae", "Pong"], EvaluateArguments(env=env))


def test_a_run_of_many_lane_groups_and_pools_is_evaluated_with_fewer_lanes(folder: Path) -> None:
    written = (folder / "config.yaml").read_text()
    for name, value in (("lane_groups", 4), ("num_pools", 2)):
        assert f"  {name}: 0\n" in written
        written = written.replace(f"  {name}: 0\n", f"  {name}: {value}\n")
    (folder / "config.yaml").write_text(written)
    _evaluate(folder, "--episodes", "1")
    _evaluate(folder, "--episodes", "3")
    assert [entry["episodes"] for entry in _entries(folder)] == [1, 3]
