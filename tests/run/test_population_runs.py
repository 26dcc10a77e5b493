"""Runs of random search and evolution through the command: rounds, files, signals, the winner."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import load_recipe
from jaxpg.experiment import build
from jaxpg.learners.optimizers import learning_rate_at
from jaxpg.run.checkpoints import Checkpoints
from tests.runs import games, records, run, summary, untimed

CANDIDATES = 150

ENV = [
    *("--env.game", "CartPole-v1", "--observation.name", "vector", "--policy.name", "linear"),
    *("--env.num-lanes", "4", "--env.num-threads", "1", "--run.budget-agent-steps", "1000000000"),
]
SEARCH = [
    *("--run.learner", "random_search", "--random-search.candidates", str(CANDIDATES)),
    *("--random-search.prior", "normal", "--random-search.finalists", "6", "--random-search.finalist-episodes", "2"),
    *("--random-search.winner-episodes", "10"),
]
EVOLUTION = [
    *("--run.learner", "evolution", "--evolution.pairs", "3", "--evolution.generations", "4"),
    *("--evolution.episodes-per-candidate", "2"),
]
GAMES_OF_SEARCH = CANDIDATES + 6 * 2 + 2 * 8 + 10


def state_of(folder: Path):
    """The newest checkpoint's state, and the experiment that it belongs to."""
    experiment = build(load_recipe(folder / "config.yaml"))
    key = jax.random.key(0)
    like = jax.eval_shape(lambda: experiment.learner.init(key, experiment.policy.init(key)))
    checkpoints = Checkpoints(folder / "checkpoints")
    state, _ = checkpoints.restore(checkpoints.iterations()[-1], like)
    checkpoints.close()
    return state, experiment


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    run(*ENV, *SEARCH, "--run.dir", str(folder))
    return folder


def check_search_is_whole(folder: Path) -> None:
    """Every candidate was scored once, every finalist as often as its round says, and the files agree."""
    played = games(folder)
    counts = Counter(int(game["candidate"]) for game in played[:CANDIDATES])
    assert counts == Counter(range(CANDIDATES)), "every candidate id is scored exactly once"
    assert len(played) == GAMES_OF_SEARCH
    finalists = Counter(int(game["candidate"]) for game in played[CANDIDATES : CANDIDATES + 12])
    assert sorted(finalists.values()) == [2] * 6
    by_candidate = {int(game["candidate"]): float(game["return"]) for game in played[:CANDIDATES]}
    state, _ = state_of(folder)
    assert [by_candidate[i] for i in range(CANDIDATES)] == state.search_returns.tolist()
    assert summary(folder)["ended"] == "all games played"


def test_a_search_scores_every_candidate_and_the_finalists_again(search):
    check_search_is_whole(search)
    assert all(float(game["return"]) == int(game["length_agent_steps"]) for game in games(search))
    rows = records(search)
    assert [row["round"] for row in rows] == sorted(row["round"] for row in rows)
    steps = np.diff([0, *(row["agent_steps"] for row in rows)])
    used = sum(row["lane_utilisation"] * step for row, step in zip(rows, steps, strict=True))
    assert used == pytest.approx(sum(int(game["length_agent_steps"]) for game in games(search)))
    assert {row["round"] for row in rows} == {0, 1, 2, 3}
    steps = [row["agent_steps"] for row in rows]
    assert steps == sorted(set(steps))


def test_the_last_line_tells_luck_from_skill(tmp_path, capsys):
    run(*ENV, *SEARCH, "--run.dir", str(tmp_path / "all"))
    metrics = summary(tmp_path / "all")["metrics"]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"jaxpg: best candidate {metrics['best_candidate']}: {metrics['best_search_return']:.1f} in the search, "
        f"{metrics['best_return']:.1f} a game over 10 fresh games"
    )
    few = ["--random-search.candidates", "30", "--random-search.finalists", "0"]
    run(*ENV, *SEARCH, *few, "--run.dir", str(tmp_path / "search"))
    assert capsys.readouterr().out.splitlines()[-1].endswith(" in the search")
    run(*ENV, *SEARCH, "--run.budget-agent-steps", "1", "--run.dir", str(tmp_path / "nothing"))
    assert capsys.readouterr().out.splitlines()[-1] == "jaxpg: the search is not over"


def test_the_summary_tells_luck_from_skill(search):
    metrics = summary(search)["metrics"]
    winner = int(metrics["best_candidate"])
    of_winner = [float(game["return"]) for game in games(search) if int(game["candidate"]) == winner]
    assert metrics["best_search_return"] == of_winner[0]
    assert metrics["best_return"] == pytest.approx(np.mean(of_winner[-10:]))
    assert len(of_winner) == 1 + 2 + 8 + 10


def test_the_winner_is_an_ordinary_checkpoint(search):
    state, experiment = state_of(search)
    winner = experiment.learner.ask(state, jnp.array([int(summary(search)["metrics"]["best_candidate"])]))
    assert all(
        np.array_equal(a, b[0]) for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(winner), strict=True)
    )


@pytest.mark.parametrize(
    "learner",
    [SEARCH, [*EVOLUTION, "--evolution.normalize-observations"]],
    ids=["random_search", "evolution"],
)
def test_the_same_seed_gives_the_same_run(learner, tmp_path, capsys):
    for name in ("a", "b"):
        run(*ENV, *learner, "--run.dir", str(tmp_path / name))
        assert ", rollouts stepped from Python, " in capsys.readouterr().out  # candidates take turns
    assert untimed(games(tmp_path / "a")) == untimed(games(tmp_path / "b"))
    assert untimed(records(tmp_path / "a")) == untimed(records(tmp_path / "b"))


@pytest.mark.long
def test_a_search_that_is_ended_by_sigterm_at_random_moments_is_the_uninterrupted_one(search, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "jaxpg.train"]
    arguments = [*ENV, *SEARCH, "--run.dir", str(folder)]
    rng = random.Random()
    interrupted = 0
    for _ in range(2):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seen = len((folder / "metrics.jsonl").read_text().splitlines()) if folder.exists() else 0
        wanted = seen + rng.randint(1, 8)
        while process.poll() is None and (
            not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_text().count("\n") < wanted
        ):
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=100)
        assert not errors
        assert process.returncode in (0, 143)
        interrupted += summary(folder)["ended"] == "SIGTERM"
        arguments = ["--resume", str(folder)]
    assert interrupted, "the search was over before the first signal"
    run("--resume", str(folder))
    check_search_is_whole(folder)
    assert untimed(games(folder)) == untimed(games(search))
    assert untimed(records(folder)) == untimed(records(search))


def test_evolution_plays_every_candidate_of_every_generation(tmp_path):
    folder = tmp_path / "run"
    run(*ENV, *EVOLUTION, "--run.dir", str(folder))
    assert Counter(int(game["candidate"]) for game in games(folder)) == Counter(dict.fromkeys(range(4 * 6), 2))
    assert summary(folder)["ended"] == "all games played"
    assert [row["generation"] for row in records(folder) if "generation_return_mean" in row] == [0, 1, 2, 3]
    state, _ = state_of(folder)
    assert state.generation == 4


def test_a_search_that_is_over_stays_over(search, capsys):
    before = (search / "episodes.csv").read_bytes()
    run("--resume", str(search))
    assert "all games played" in capsys.readouterr().out
    assert (search / "episodes.csv").read_bytes() == before


def test_the_rate_of_evolution_follows_the_agent_steps(tmp_path):
    folder = tmp_path / "run"
    schedule = ("--optimizer.schedule", "linear", "--run.schedule-agent-steps", "1000")
    run(*ENV, *EVOLUTION, *schedule, "--run.dir", str(folder))
    rate, start = load_recipe(folder / "config.yaml").optimizer, 0
    for row in records(folder):
        assert row["learning_rate"] == learning_rate_at(rate, min(start / 1000, 1.0))
        start = row["agent_steps"]
    assert start > 0


@pytest.mark.parametrize("flags", [SEARCH, EVOLUTION])
def test_saves_by_the_clock_do_not_change_the_games(tmp_path: Path, flags: list[str]) -> None:
    for name, seconds in (("often", "0.000001"), ("never", "0")):
        flags = [*flags, "--checkpoint.every-seconds", seconds, "--random-search.candidates", "30"]
        run(*ENV, *flags, "--run.dir", str(tmp_path / name))
    often, never = (untimed(games(tmp_path / name)) for name in ("often", "never"))
    assert often == never
