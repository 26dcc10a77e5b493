"""The training command: what a run leaves, and what ends it."""

import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.cli import parse_train
from jaxpg.config import load_recipe
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.rollout import Rollout
from jaxpg.learners.optimizers import learning_rate_at
from jaxpg.run.checkpoint_metadata import Metadata
from jaxpg.run.run_progress import RunProgress
from tests.runs import (
    CARTPOLE,
    LANES,
    PER_ITERATION,
    PHASES,
    RECORD,
    cartpole,
    change_tell,
    check_whole,
    games,
    records,
    run,
    saved,
    summary,
    untimed,
)


def test_a_run_folder_holds_everything(uninterrupted):
    names = {"config.yaml", "metrics.jsonl", "episodes.csv", "tensorboard", "checkpoints", "summary.json"}
    names |= {"lock", "trainer.json"}
    assert {path.name for path in uninterrupted.iterdir()} == names
    assert sorted(path.name for path in (uninterrupted / "checkpoints").iterdir()) == ["15", "20"]
    (events,) = (uninterrupted / "tensorboard").iterdir()
    assert b"gradient_norm" in events.read_bytes()
    check_whole(uninterrupted, iterations=20)


def test_config_yaml_is_the_configuration_that_ran(uninterrupted):
    argv = [*CARTPOLE, "--run.dir", str(uninterrupted), "--checkpoint.every-iterations", "5"]
    argv += ["--run.budget-agent-steps", str(20 * PER_ITERATION)]
    assert load_recipe(uninterrupted / "config.yaml") == parse_train(argv).config


def test_every_record_has_the_promised_numbers(uninterrupted):
    rows = records(uninterrupted)
    for row in rows:
        assert set(RECORD) <= set(row)
        assert row["frames"] == row["agent_steps"]  # CartPole skips none
        assert 0 < row["entropy"] <= np.log(2) + 1e-6
        assert row["gradient_norm"] > 0
    assert len({row["policy_loss"] for row in rows}) == len(rows)


def test_the_phases_add_up_to_the_time_of_the_iteration(uninterrupted):
    for row in records(uninterrupted):
        wall = PER_ITERATION / row["agent_steps_per_second"]
        rounding = wall * 0.05 / (row["agent_steps_per_second"] - 0.05) + 4e-6
        assert sum(row[name] for name in PHASES) == pytest.approx(wall, abs=rounding)
        assert all(row[name] >= -1e-6 for name in PHASES)


def test_the_wall_clock_counts_every_iteration(uninterrupted):
    rows = records(uninterrupted)
    worked = np.cumsum([sum(row[name] for name in PHASES) for row in rows])
    assert all(row["wall_seconds"] >= total - 0.002 for row, total in zip(rows, worked, strict=True))


def test_games_are_noted_with_their_length_and_return(uninterrupted):
    played = games(uninterrupted)
    assert len(played) > 5
    for game in played:
        assert float(game["return"]) == int(game["length_agent_steps"])  # CartPole pays 1 a step
        assert 0 <= int(game["lane"]) < LANES
        assert game["candidate"] == "0"
        assert int(game["agent_steps"]) % LANES == 0


def test_the_summary_says_how_the_run_ended(uninterrupted):
    last = records(uninterrupted)[-1]
    said = summary(uninterrupted)
    assert said["ended"] == "budget of agent steps used"
    assert {name: said[name] for name in ("iteration", "agent_steps", "episodes", "return_mean_100")} == {
        name: last[name] for name in ("iteration", "agent_steps", "episodes", "return_mean_100")
    }
    assert said["wall_seconds"] >= last["wall_seconds"] - 0.001


def test_the_same_seed_gives_the_same_run_and_another_does_not(uninterrupted, tmp_path):
    again = cartpole(tmp_path / "again", "--checkpoint.every-iterations", "5", iterations=20)
    other = cartpole(tmp_path / "other", "--checkpoint.every-iterations", "5", "--run.seed", "2", iterations=20)
    assert untimed(records(again)) == untimed(records(uninterrupted))
    assert untimed(games(again)) == untimed(games(uninterrupted))
    assert saved(again)[1] == saved(uninterrupted)[1]
    assert untimed(games(other)) != untimed(games(uninterrupted))
    assert saved(other)[1] != saved(uninterrupted)[1]


def test_a_run_on_pong(tmp_path):
    folder = tmp_path / "pong"
    argv = ["--env.num-lanes", "2", "--reinforce.rollout-agent-steps", "16", "--policy.hidden", "8"]
    run(*argv, "--run.dir", str(folder), "--run.budget-agent-steps", "64")
    rows = records(folder)
    assert [(row["iteration"], row["agent_steps"], row["frames"]) for row in rows] == [(1, 32, 128), (2, 64, 256)]
    assert set(RECORD) <= set(rows[0])
    assert rows[-1]["return_mean_100"] is None
    assert summary(folder)["return_mean_100"] is None
    assert games(folder) == []


def test_the_target_ends_the_run_after_a_hundred_games_and_not_before(tmp_path):
    target = ("--run.target-return", "5")  # every game of CartPole is longer
    folder = cartpole(tmp_path / "target", *target, iterations=500)
    rows = records(folder)
    assert summary(folder)["ended"] == "target return reached"
    assert rows[-1]["episodes"] >= 100 > rows[-2]["episodes"]
    check_whole(folder)
    assert saved(folder)[0] == [len(rows)]


def test_a_target_that_is_not_reached_does_not_end_the_run(tmp_path):
    folder = cartpole(
        tmp_path / "run", "--run.target-return", "500", "--optimizer.learning-rate", "1e-6", iterations=80
    )
    assert summary(folder)["ended"] == "budget of agent steps used"
    assert records(folder)[-1]["episodes"] > 100


def test_the_budget_of_agent_steps_is_used_up_to_a_whole_iteration(tmp_path):
    folder = tmp_path / "run"
    run(*CARTPOLE, "--run.dir", str(folder), "--run.budget-agent-steps", str(2 * PER_ITERATION + 1))
    assert summary(folder)["agent_steps"] == 3 * PER_ITERATION


def test_the_budget_of_seconds_ends_the_run(tmp_path):
    folder = cartpole(tmp_path / "run", "--run.budget-seconds", "1e-9", iterations=500)
    assert summary(folder)["ended"] == "budget of seconds used"
    assert len(records(folder)) == 1


def test_the_budget_of_games_ends_the_run(tmp_path):
    folder = cartpole(tmp_path / "run", "--run.budget-episodes", "30", iterations=500)
    assert summary(folder)["ended"] == "budget of games used"
    lines = records(folder)
    assert lines[-2]["episodes"] < 30 <= lines[-1]["episodes"]


def test_a_run_is_saved_by_the_clock_too(tmp_path):
    always = ("--checkpoint.every-seconds", "1e-9", "--checkpoint.keep-newest", "9")
    folder = cartpole(tmp_path / "run", *always, iterations=3)
    assert saved(folder)[0] == [1, 2, 3]


def test_whatever_changes_on_resume_the_schedules_go_on_from_where_they_were(tmp_path):
    """A larger budget, more lanes, shorter rollouts, more and smaller updates: rates are functions of agent steps."""
    folder = cartpole(tmp_path / "run", "--run.schedule-agent-steps", "0", iterations=6)
    length = 6 * PER_ITERATION
    assert load_recipe(folder / "config.yaml").run.schedule_agent_steps == length
    changes = (
        ("--run.schedule-agent-steps", str(2 * length)),  # by choice, so that half of it is still to come
        ("--env.num-lanes", "8", "--reinforce.rollout-agent-steps", "2"),
        ("--reinforce.epochs", "2", "--reinforce.minibatch-agent-steps", "8"),
    )
    budget = length
    for flags in changes:
        budget += length // 3
        run("--resume", str(folder), "--run.budget-agent-steps", str(budget), *flags)
    config = load_recipe(folder / "config.yaml")
    assert config.run.schedule_agent_steps == 2 * length
    rows = records(folder)
    before = [0, *(row["agent_steps"] for row in rows[:-1])]
    spans = [length] * 6 + [2 * length] * (len(rows) - 6)
    assert len(rows) > 12
    for start, span, row, older in zip(before, spans, rows, [rows[0], *rows], strict=False):
        progress = start / span
        assert row["learning_rate"] == learning_rate_at(config.optimizer, progress)
        bonus = config.reinforce.entropy_bonus * (1 - 0.9 * progress)
        assert row["entropy_bonus"] == pytest.approx(bonus)
        assert row is older or row["weight_norm"] != older["weight_norm"], "the weights move"


def test_another_optimizer_on_resume_is_one_sentence(tmp_path, capsys):
    folder = cartpole(tmp_path / "run", iterations=1)
    capsys.readouterr()
    run("--resume", str(folder), "--optimizer.name", "sgd", "--run.budget-agent-steps", "1000", code=2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the checkpoint is of another optimizer: optimizer." in said


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"

    iterations = itertools.count(1)

    def spoil_loss(state, metrics):
        return state, {**metrics, "policy_loss": jnp.nan if next(iterations) == 8 else metrics["policy_loss"]}

    change_tell(monkeypatch, spoil_loss)
    cartpole(folder, "--checkpoint.every-iterations", "4", code=2)
    assert capsys.readouterr().err == (
        f"jaxpg: {folder}: policy_loss became nan in iteration 8; the last good checkpoint is iteration 4; "
        "a smaller optimizer.learning_rate often helps\n"
    )
    assert saved(folder)[0] == [4]
    check_whole(folder, iterations=7)
    assert not (folder / "summary.json").exists()
    monkeypatch.undo()
    run("--resume", str(folder))
    check_whole(folder, iterations=12)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, capsys, monkeypatch):
    """The loss of the update that breaks them is still finite."""
    folder = tmp_path / "run"

    iterations = itertools.count(1)

    def break_weights(state, metrics):
        if next(iterations) == 8:
            state = state._replace(params=jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), state.params))
        return state, metrics

    change_tell(monkeypatch, break_weights)
    cartpole(folder, "--checkpoint.every-iterations", "4", code=2)
    assert capsys.readouterr().err == (
        f"jaxpg: {folder}: a weight became infinite or NaN in iteration 8; the last good checkpoint is iteration 4; "
        "a smaller optimizer.learning_rate often helps\n"
    )
    assert saved(folder)[0] == [4]
    monkeypatch.undo()
    run("--resume", str(folder))
    check_whole(folder, iterations=12)


def test_a_run_that_breaks_off_at_once_ends_its_emulators_threads_and_begins_anew(tmp_path, monkeypatch, capsys):
    closed = []
    original = Rollout.close
    monkeypatch.setattr(Rollout, "close", lambda rollout: (closed.append(rollout), original(rollout)))
    change_tell(monkeypatch, lambda state, metrics: (state, {"policy_loss": jnp.nan}))
    folder = cartpole(tmp_path / "run", code=2)
    assert len(closed) == 1
    capsys.readouterr()
    monkeypatch.undo()
    cartpole(folder, iterations=1)
    assert (
        f"jaxpg: {folder}: an earlier start trained nothing there, and the run begins anew" in capsys.readouterr().out
    )
    check_whole(folder, iterations=1)


def test_a_thread_can_train(tmp_path):
    """Where Python has no signal handlers."""
    thread = threading.Thread(target=cartpole, args=(tmp_path / "run",), kwargs={"iterations": 1})
    thread.start()
    thread.join()
    assert summary(tmp_path / "run")["ended"] == "budget of agent steps used"


def test_progress_survives_json():
    progress = RunProgress(iteration=3, agent_steps=96, episodes=2, wall_seconds=0.1 + 0.2, segment=1)
    progress.last_returns.extend(float(i) for i in range(150))
    back = Metadata.from_json(Metadata(progress=progress, games=None).to_json()).progress
    assert back == progress
    assert back.last_returns.maxlen == 100
    assert back.return_mean_100 == 99.5


def test_lanes_of_one_run_and_of_every_segment_have_their_own_seeds():
    seeds = [lane_seeds(seed, segment, 64) for seed in (1, 2) for segment in (0, 1, 2)]
    assert len(np.unique(np.concatenate(seeds))) == 6 * 64
    assert all((s >= 0).all() and (s < 2**31).all() for s in seeds)
    assert (lane_seeds(1, 0, 8) == seeds[0][:8]).all()
