"""The training command: what a run leaves, what ends it, and that an interrupted run goes on as if it had not been."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg import train as train_module
from jaxpg.checkpoint import Checkpoints
from jaxpg.cli import parse_train
from jaxpg.config import load_recipe
from jaxpg.experiment import build
from jaxpg.metrics import JsonLines
from jaxpg.rollout import Rollout
from jaxpg.train import Progress, main

LANES, ROLLOUT = 4, 8
PER_ITERATION = LANES * ROLLOUT
CARTPOLE = [
    *("--env.game", "CartPole-v1", "--observation.name", "vector", "--policy.hidden", "8"),
    *("--env.num-lanes", str(LANES), "--reinforce.rollout-agent-steps", str(ROLLOUT), "--env.num-threads", "1"),
]
RECORD = [
    *("iteration", "agent_steps", "frames", "episodes", "wall_seconds", "agent_steps_per_second", "return_mean_100"),
    *("policy_loss", "entropy", "gradient_norm"),
    *("emulate_seconds", "act_seconds", "learn_seconds", "other_seconds"),
]
PHASES = ("emulate_seconds", "act_seconds", "learn_seconds", "other_seconds")


def run(*argv: str, code: int = 0) -> None:
    """The command within this process."""
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == code


def cartpole(folder: Path, *argv: str, iterations: int = 12, code: int = 0) -> Path:
    """A run of some iterations on CartPole within this process."""
    run(
        *CARTPOLE,
        "--run.dir",
        str(folder),
        "--run.budget-agent-steps",
        str(iterations * PER_ITERATION),
        *argv,
        code=code,
    )
    return folder


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def games(folder: Path) -> list[dict]:
    with (folder / "episodes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(rows: list[dict]) -> list[dict]:
    """Rows without what a clock says."""
    return [{name: x for name, x in row.items() if "seconds" not in name and "per_second" not in name} for row in rows]


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def saved(folder: Path) -> tuple[list[int], bytes, dict]:
    """The checkpointed iterations, and the newest one's parameters as bytes and its metadata."""
    experiment = build(load_recipe(folder / "config.yaml"))
    state = experiment.learner.init(jax.random.key(0), experiment.policy.init(jax.random.key(0)))
    checkpoints = Checkpoints(folder / "checkpoints", keep_newest=9)
    iterations = checkpoints.iterations()
    state, metadata = checkpoints.restore(iterations[-1], state)
    checkpoints.close()
    state = state._replace(key=jax.random.key_data(state.key))
    return iterations, b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)), metadata


def check_whole(folder: Path, iterations: int | None = None) -> None:
    """Every iteration and every game stands in the files exactly once."""
    rows = records(folder)
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    assert iterations is None or len(rows) == iterations
    assert [row["agent_steps"] for row in rows] == [PER_ITERATION * row["iteration"] for row in rows]
    seconds = [row["wall_seconds"] for row in rows]
    assert seconds == sorted(seconds)
    played = games(folder)
    assert [row["episodes"] for row in rows] == [
        sum(int(game["agent_steps"]) <= row["agent_steps"] for game in played) for row in rows
    ]
    ends = [(int(game["agent_steps"]), int(game["lane"])) for game in played]
    assert ends == sorted(set(ends))
    for i, row in enumerate(rows):
        window = [float(game["return"]) for game in played[: row["episodes"]]][-100:]
        assert row["return_mean_100"] == (pytest.approx(sum(window) / len(window)) if window else None), i


class Signals:
    """A writer that sends this process a signal in the middle of an iteration."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def send(self, number: int, iteration: int) -> None:
        write = JsonLines.write

        def write_then_signal(writer, record, episodes):
            write(writer, record, episodes)
            if record["iteration"] == iteration:
                os.kill(os.getpid(), number)

        self._monkeypatch.setattr(JsonLines, "write", write_then_signal)

    def stop(self) -> None:
        self._monkeypatch.undo()


@pytest.fixture
def signals(monkeypatch):
    return Signals(monkeypatch)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """Twenty iterations, saved every five: what every interrupted run is compared with."""
    return cartpole(tmp_path_factory.mktemp("runs") / "whole", "--checkpoint.every-iterations", "5", iterations=20)


def test_a_run_folder_holds_everything(uninterrupted):
    names = {"config.yaml", "metrics.jsonl", "episodes.csv", "tensorboard", "checkpoints", "summary.json"}
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
        rounding = wall * 0.05 / row["agent_steps_per_second"] + 4e-6
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
    folder = cartpole(tmp_path / "run", "--run.target-return", "500", iterations=80)
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


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "SIGINT", 130)])
def test_a_signal_ends_the_run_after_the_iteration_and_resume_finishes_it(
    number, name, code, signals, tmp_path, capsys
):
    signals.send(number, iteration=7)
    folder = cartpole(tmp_path / "run", iterations=12, code=code)
    signals.stop()
    assert summary(folder)["ended"] == name
    assert summary(folder)["iteration"] == 7
    check_whole(folder, iterations=7)
    assert f"jaxpg: {name}; {7 * PER_ITERATION} agent steps" in capsys.readouterr().out
    first = records(folder)
    run("--resume", str(folder))
    check_whole(folder, iterations=12)
    assert records(folder)[:7] == first
    assert summary(folder)["ended"] == "budget of agent steps used"


@pytest.mark.parametrize("iteration", [10, 12])
def test_a_run_that_is_ended_and_resumed_is_the_uninterrupted_run_from_its_save_on(
    iteration, uninterrupted, signals, tmp_path
):
    """At 10 the signal falls on a save; at 12 it makes one of its own, so that only the first ten are the same."""
    signals.send(signal.SIGTERM, iteration=iteration)
    folder = cartpole(tmp_path / "run", "--checkpoint.every-iterations", "5", iterations=20, code=143)
    signals.stop()
    run("--resume", str(folder))
    check_whole(folder, iterations=20)
    same = iteration % 5 == 0
    assert (untimed(records(folder)) == untimed(records(uninterrupted))) == same
    assert (saved(folder)[1] == saved(uninterrupted)[1]) == same
    assert untimed(records(folder))[:iteration] == untimed(records(uninterrupted))[:iteration]


class Killed(BaseException):
    """Stands for the end of the process in the middle of anything."""


@pytest.mark.parametrize("iteration", [6, 10, 13, 14])
def test_a_run_that_was_killed_repeats_itself_to_the_bit_from_its_last_save(
    iteration, uninterrupted, tmp_path, monkeypatch
):
    """Killed right after writing an iteration: 5 and 10 are saved, and what came later must come again, once."""
    write = JsonLines.write

    def write_then_die(writer, record, episodes):
        write(writer, record, episodes)
        if record["iteration"] == iteration:
            raise Killed

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(JsonLines, "write", write_then_die)
        main(
            [
                *CARTPOLE,
                "--run.dir",
                str(folder),
                "--run.budget-agent-steps",
                "640",
                "--checkpoint.every-iterations",
                "5",
            ]
        )
    assert not (folder / "summary.json").exists()
    assert len(records(folder)) == iteration
    run("--resume", str(folder))
    check_whole(folder, iterations=20)
    assert untimed(records(folder)) == untimed(records(uninterrupted))
    assert untimed(games(folder)) == untimed(games(uninterrupted))
    ours, theirs = saved(folder), saved(uninterrupted)
    assert ours[1] == theirs[1]
    assert {**ours[2], "wall_seconds": 0} == {**theirs[2], "wall_seconds": 0}


def test_every_segment_seeds_the_emulators_differently(uninterrupted):
    """Were they seeded alike, the games after every save would start alike."""
    starts = []
    for start in (0, 5, 10, 15):
        first, last = start * PER_ITERATION, (start + 5) * PER_ITERATION
        starts.append([g["length_agent_steps"] for g in games(uninterrupted) if first < int(g["agent_steps"]) <= last])
    assert len({tuple(s) for s in starts}) == 4
    assert saved(uninterrupted)[2]["segment"] == 4


def test_the_window_of_returns_survives_a_resume(signals, tmp_path):
    """More than a hundred games before the signal, so that the window has slid, and games after it."""
    signals.send(signal.SIGTERM, iteration=80)
    folder = cartpole(tmp_path / "run", iterations=90, code=143)
    signals.stop()
    before = saved(folder)[2]
    assert len(before["last_returns"]) == 100 < before["episodes"]
    assert before["last_returns"] == [float(game["return"]) for game in games(folder)][-100:]
    run("--resume", str(folder))
    check_whole(folder, iterations=90)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    folder = cartpole(tmp_path / "run", iterations=3)
    before = records(folder), games(folder), saved(folder)[:2], summary(folder)
    for _ in range(2):
        run("--resume", str(folder))
    assert (records(folder), games(folder), saved(folder)[:2], summary(folder)) == before


def test_a_resumed_run_can_be_given_a_larger_budget_and_keeps_it(tmp_path):
    folder = cartpole(tmp_path / "run", iterations=3)
    run("--resume", str(folder), "--run.budget-agent-steps", str(5 * PER_ITERATION))
    check_whole(folder, iterations=5)
    assert load_recipe(folder / "config.yaml").run.budget_agent_steps == 5 * PER_ITERATION


def test_a_run_is_saved_by_the_clock_too(tmp_path):
    always = ("--checkpoint.every-seconds", "1e-9", "--checkpoint.keep-newest", "9")
    folder = cartpole(tmp_path / "run", *always, iterations=3)
    assert saved(folder)[0] == [1, 2, 3]


def change_tell(monkeypatch, change) -> None:
    """Lets ``change(state, metrics)`` have the last word in every update."""
    original = train_module.build

    def changed(config):
        experiment = original(config)
        tell = experiment.learner.tell
        return experiment._replace(learner=experiment.learner._replace(tell=lambda *args: change(*tell(*args))))

    monkeypatch.setattr(train_module, "build", changed)


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"

    def spoil_loss(state, metrics):
        return state, {**metrics, "policy_loss": jnp.where(state.iteration == 8, jnp.nan, metrics["policy_loss"])}

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

    def break_weights(state, metrics):
        params = jax.tree.map(lambda x: jnp.where(state.iteration == 8, jnp.inf, x), state.params)
        return state._replace(params=params), metrics

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


def test_the_emulators_threads_end_even_when_the_run_breaks_off(tmp_path, monkeypatch):
    closed = []
    original = Rollout.close
    monkeypatch.setattr(Rollout, "close", lambda rollout: (closed.append(rollout), original(rollout)))
    change_tell(monkeypatch, lambda state, metrics: (state, {"policy_loss": jnp.nan}))
    cartpole(tmp_path / "run", code=2)
    assert len(closed) == 1


def test_progress_survives_json():
    progress = Progress(iteration=3, agent_steps=96, episodes=2, wall_seconds=0.1 + 0.2, segment=1)
    progress.last_returns.extend(float(i) for i in range(150))
    back = Progress.from_json(json.loads(json.dumps(progress.to_json())))
    assert back == progress
    assert back.last_returns.maxlen == 100
    assert back.return_mean_100 == 99.5


def test_lanes_of_one_run_and_of_every_segment_have_their_own_seeds():
    seeds = [train_module.lane_seeds(seed, segment, 64) for seed in (1, 2) for segment in (0, 1, 2)]
    assert len(np.unique(np.concatenate(seeds))) == 6 * 64
    assert all((s >= 0).all() and (s < 2**31).all() for s in seeds)
    assert (train_module.lane_seeds(1, 0, 8) == seeds[0][:8]).all()


class Process:
    """A real run in a process of its own, endless unless it is ended."""

    def __init__(self, folder: Path):
        self.folder = folder
        argv = [*CARTPOLE, "--run.dir", str(folder), "--run.budget-agent-steps", "1000000000"]
        argv += [
            "--optimizer.schedule",
            "constant",
            "--reinforce.final-entropy-bonus-fraction",
            "1",
        ]  # no budget in them
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jaxpg.train", *argv, "--checkpoint.every-iterations", "20"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_lines(self, number: int) -> None:
        path = self.folder / "metrics.jsonl"
        while self.process.poll() is None and (not path.exists() or path.read_text().count("\n") < number):
            time.sleep(0.02)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.stdout, self.stderr = self.process.communicate(timeout=100)
        return self.process.returncode


@pytest.fixture
def process(tmp_path):
    started = Process(tmp_path / "run")
    yield started
    started.process.kill()
    started.process.communicate()


def finish(folder: Path) -> int:
    """Resumes a run in this process for a few iterations more; returns how many there are then."""
    iterations = len((folder / "metrics.jsonl").read_text().splitlines()) + 5
    run("--resume", str(folder), "--run.budget-agent-steps", str(iterations * PER_ITERATION))
    return iterations


def test_sigterm_at_a_random_moment_loses_and_doubles_nothing(process):
    process.wait_for_lines(1)
    time.sleep(random.uniform(0, 0.5))
    assert process.end(signal.SIGTERM) == 143
    assert process.stderr == ""
    assert "jaxpg: SIGTERM; " in process.stdout
    assert summary(process.folder)["iteration"] == len(records(process.folder)) == saved(process.folder)[0][-1]
    check_whole(process.folder, iterations=finish(process.folder))


def test_sigkill_at_a_random_moment_drops_what_was_not_saved_and_writes_it_once(process):
    process.wait_for_lines(30)
    time.sleep(random.uniform(0, 0.5))
    assert process.end(signal.SIGKILL) == -9
    before = records(process.folder)
    last = saved(process.folder)[0][-1]
    assert 20 <= last <= len(before)
    iterations = finish(process.folder)
    check_whole(process.folder, iterations=iterations)
    assert records(process.folder)[:last] == before[:last]
    assert untimed(records(process.folder))[: len(before)] == untimed(before)


def test_sigterm_during_the_start_leaves_a_run_that_can_be_resumed(process):
    line = process.process.stdout.readline()
    assert line.startswith("jaxpg: CartPole-v1 on envpool, 4 lanes, ")
    assert process.end(signal.SIGTERM) == 143
    assert process.stderr == ""
    assert not list(process.folder.rglob("*tmp*"))
    check_whole(process.folder, iterations=finish(process.folder))


def test_sigterm_at_a_random_moment_of_the_start_leaves_nothing_half_written(process):
    time.sleep(random.uniform(0, 4))
    assert process.end(signal.SIGTERM) in {143, -signal.SIGTERM}  # the latter while Python still imports
    if process.folder.exists():
        assert process.process.returncode == 143
        check_whole(process.folder, iterations=finish(process.folder))
