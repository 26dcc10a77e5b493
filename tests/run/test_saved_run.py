"""``--checkpoint best``: the save with the highest mean over a full window is kept, and a placeholder is no result."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import load_run
from jaxpg.core.errors import UserError
from jaxpg.evaluate import command as evaluate
from jaxpg.experiment import Player, build
from jaxpg.kernel.pieces import Experiment
from jaxpg.run.checkpoint_metadata import Metadata
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.saved_run import restore_params
from jaxpg.train import command as train
from tests.run.test_population_runs import ENV, SEARCH
from tests.runs import PER_ITERATION, cartpole, change_tell, games, run, saved

LONG = ("--reinforce.rollout-agent-steps", "32")
PER_LONG_ITERATION = 4 * PER_ITERATION
SPOILED = 27
"""The iteration after which the policy always goes to the left."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run whose policy is spoiled after a hundred games, saved every three iterations and resumed once."""

    iterations = itertools.count(1)

    def spoil(state, metrics):
        def always_left(x):
            return x * 0 - (jnp.arange(x.size) * 1e3 if x.ndim == 1 else 0)

        is_spoiled = next(iterations) >= SPOILED
        return state._replace(params=jax.tree.map(always_left, state.params)) if is_spoiled else state, metrics

    folder = tmp_path_factory.mktemp("best") / "run"
    with pytest.MonkeyPatch.context() as patch:
        change_tell(patch, spoil)
        cartpole(folder, *LONG, "--checkpoint.every-iterations", "3", iterations=33 * 4)
        run("--resume", str(folder), "--run.budget-agent-steps", str(39 * PER_LONG_ITERATION))
    return folder


def means_at_saves(folder: Path) -> dict[int, float]:
    """The mean of the last hundred games at each save that had as many."""
    ends, returns = (np.array([float(game[name]) for game in games(folder)]) for name in ("agent_steps", "return"))
    played = {i: returns[ends <= i * PER_LONG_ITERATION] for i in range(3, 40, 3)}
    return {i: window[-100:].mean() for i, window in played.items() if window.size >= 100}


@pytest.fixture
def experiment(folder: Path):
    config = load_run(str(folder))
    experiment = build(config, Player(config.env))
    yield experiment
    experiment.rollout.close()


def test_the_best_save_of_a_full_window_is_kept_and_chosen_though_newer_ones_are_worse(
    folder: Path, experiment: Experiment
) -> None:
    means = means_at_saves(folder)
    best = max(means, key=means.__getitem__)
    assert best < 33, "it is older than the newest two, and than the resume"
    iterations, _, progress = saved(folder)
    assert iterations == [best, 36, 39]
    assert (progress.best_iteration, progress.best_score) == (best, pytest.approx(means[best]))
    assert restore_params(folder, experiment, "best")[1] == best


def test_a_run_without_the_mark_of_an_older_version_is_searched(
    folder: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Checkpoints.metadata

    def unmarked(checkpoints, iteration):
        metadata = read(checkpoints, iteration)
        metadata.progress.best_iteration = None
        return metadata

    monkeypatch.setattr(Checkpoints, "metadata", unmarked)
    assert restore_params(folder, experiment, "best")[1] == saved(folder)[0][0]


def test_without_a_full_window_the_highest_mean_is_taken_and_its_games_are_named(
    uninterrupted: Path, capsys: pytest.CaptureFixture
) -> None:
    config = load_run(str(uninterrupted))
    experiment = build(config, Player(config.env))
    played = games(uninterrupted)
    windows = {
        i: [float(game["return"]) for game in played if int(game["agent_steps"]) <= i * PER_ITERATION] for i in (15, 20)
    }
    best = max(windows, key=lambda i: np.mean(windows[i]))
    assert restore_params(uninterrupted, experiment, "best")[1] == best
    assert capsys.readouterr().out == (
        f"jaxpg: {uninterrupted}: no save had a mean return over 100 games yet; checkpoint {best} is taken for the "
        f"best, by its mean over {len(windows[best])} games\n"
    )
    experiment.rollout.close()


def test_without_a_finished_game_the_newest_is_taken(
    uninterrupted: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Checkpoints, "metadata", lambda self, i: Metadata(progress=RunProgress(iteration=i), games=None)
    )
    config = load_run(str(uninterrupted))
    experiment = build(config, Player(config.env))
    assert restore_params(uninterrupted, experiment, "best")[1] == 20
    assert "no game was over at any save yet; checkpoint 20 is taken, the newest\n" in capsys.readouterr().out
    experiment.rollout.close()


def test_a_better_policy_asks_for_a_save_only_where_it_is_notably_better() -> None:
    progress = RunProgress(iteration=5)
    progress.last_returns.extend([0.0, 10.0] * 49)
    assert not progress.is_notably_best(""), "not a full window"
    progress.last_returns.extend([0.0, 10.0])
    assert progress.is_notably_best("")
    progress.note_best("")
    assert (progress.best_iteration, progress.best_score) == (5, 5.0)
    progress.iteration = 6
    progress.last_returns.extend([10.0] * 8)  # a standard error is 0.5
    assert progress.return_mean_100 == 5.4
    assert not progress.is_notably_best("")
    progress.last_returns.extend([10.0] * 8)
    assert progress.is_notably_best("")
    assert not progress.is_notably_best("generation_return_mean"), "which there is not yet"


def test_a_search_that_was_ended_early_is_never_evaluated_as_its_untrained_network(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "search"
    assert train([*ENV, *SEARCH, "--run.dir", str(folder), "--run.budget-agent-steps", "1"]) == 0
    capsys.readouterr()
    assert evaluate([str(folder), "--checkpoint", "best", "--episodes", "3"]) == 0
    said = capsys.readouterr().out
    assert "checkpoint 1: the search is not over; this is candidate " in said
    played = {int(game["candidate"]): float(game["return"]) for game in games(folder)}
    best = max(played, key=played.__getitem__)
    assert f"this is candidate {best}, the best of the {len(played)} of 150" in said
    config = load_run(str(folder))
    experiment = build(config, Player(config.env))
    learner, learner_key = experiment.learner, jax.random.split(jax.random.key(config.run.seed), 3)[1]
    begun = learner.init(learner_key, experiment.policy.init(jax.random.key(0)))
    restored, *_ = restore_params(folder, experiment, "latest")
    drawn = learner.ask(begun, jnp.array([best]))
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(drawn), strict=True):
        assert np.array_equal(ours, theirs[0])
    checkpoints = Checkpoints(folder / "checkpoints", keep_newest=2)
    checkpoints.save(2, begun, Metadata(progress=RunProgress(iteration=2), games=None))
    checkpoints.close()
    with pytest.raises(UserError, match=r"search: checkpoint 2: the search is not over, and no candidate has played"):
        restore_params(folder, experiment, "best")
    experiment.rollout.close()


def test_a_run_that_has_learned_nothing_yet_says_so(
    folder: Path, experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    key = jax.random.key(0)
    state = experiment.learner.init(key, experiment.policy.init(key))
    checkpoints.save(0, state, Metadata(progress=RunProgress(), games=None))
    checkpoints.close()
    restore_params(tmp_path, experiment, "latest")
    assert "checkpoint 0: nothing was trained yet; this is the untrained network" in capsys.readouterr().out
