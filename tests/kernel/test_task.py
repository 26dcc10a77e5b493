"""What a policy was trained for is compared by name with what it is asked to play or to go on with."""

from dataclasses import replace
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.evaluate import command as evaluate
from jaxpg.kernel.task import Task, check_player, check_resumed
from jaxpg.policies.observations import ObservationConfig, make_observation
from tests.helpers import SMALL
from tests.runs import run, saved

PONG = EnvConfig(game="Pong", num_threads=1)


def task(observation: ObservationConfig = SMALL, **env) -> Task:
    config = replace(PONG, **env)
    needs = make_observation(observation).needs
    emulators = make_env(config, needs, 1)
    emulators.close()
    return Task.of(config, observation, needs, emulators.spec)


@pytest.mark.parametrize("backend", ["envpool", "ale"])
def test_numbers_that_mean_other_actions_are_refused_by_name(backend: str) -> None:
    trained = task(backend=backend, actions=(2, 3))
    assert trained.actions == ("RIGHT", "LEFT")
    asked = task(backend=backend, actions=(2, 3), full_action_space=True)
    with pytest.raises(UserError) as refused:
        check_player(trained, asked)
    assert str(refused.value) == (
        "env.actions: the policy was trained for the actions RIGHT, LEFT of Pong, but is asked to play UP, RIGHT of "
        "Pong; give --env.actions RIGHT LEFT"
    )
    with pytest.raises(UserError, match="trained for the actions RIGHT, LEFT .* UP, RIGHT .* begin a new run"):
        check_resumed(trained, asked)
    right = task(backend=backend, actions=("RIGHT", "LEFT"), full_action_space=True)
    assert (check_player(trained, right), check_resumed(trained, right)) == ([], [])


@pytest.mark.parametrize(("actions", "asked"), [((), ("RIGHT", "LEFT")), (("LEFT", "RIGHT"), ("RIGHT", "LEFT"))])
def test_another_number_or_order_of_actions_is_refused(actions: tuple, asked: tuple) -> None:
    with pytest.raises(UserError, match="trained for the actions .*; give --env.actions .*LEFT"):
        check_player(task(actions=actions), task(actions=asked))


def test_all_18_actions_are_not_the_minimal_ones() -> None:
    with pytest.raises(UserError, match="give --env.actions NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE"):
        check_player(task(), task(full_action_space=True))


def test_numbers_stand_for_all_names_in_their_order_where_one_side_knows_no_names() -> None:
    named = task(ObservationConfig(name="vector"), game="MountainCar-v0")
    assert named.actions == ("LEFT", "NOOP", "RIGHT")
    nameless = replace(named, actions=("0", "1", "2"))
    said = ["actions 0, 1, 2 are taken for LEFT, NOOP, RIGHT, in this order"]
    assert check_player(nameless, named) == said
    assert check_resumed(nameless, named) == check_resumed(named, nameless) == []
    for other in (("0", "1"), ("0", "2", "1"), ("1", "2", "3")):
        with pytest.raises(UserError, match="trained for the actions"):
            check_player(replace(named, actions=other), named)
    with pytest.raises(UserError, match="trained for the actions"):
        check_player(replace(named, actions=("RIGHT", "NOOP", "LEFT")), named)


def test_a_run_goes_on_with_its_own_game_only() -> None:
    trained, asked = task(actions=(2, 3)), task(actions=(2, 3), game="Breakout")
    assert trained.actions == asked.actions
    with pytest.raises(UserError, match="this run is about Pong, and cannot go on with Breakout; begin a new run"):
        check_resumed(trained, asked)
    assert check_player(trained, asked) == ["env.game is Breakout, and was Pong in training"]


def test_numbers_of_another_games_memory_mean_something_else() -> None:
    ram = ObservationConfig(name="ram")
    with pytest.raises(UserError, match="trained on Pong, .* 'ram' mean something else in Tennis"):
        check_player(task(ram, actions=("UP",), full_action_space=True), task(ram, game="Tennis", actions=("UP",)))


DIFFERENT = {
    "lanes": ({"num_lanes": 3, "num_pools": 1, "num_threads": 2, "timeout_seconds": 9.0}, 0, 0),
    "sticky actions": ({"sticky_action_probability": 0.25}, 0, 1),
    "no-ops": ({"noop_max": 5}, 0, 1),
    "FIRE": ({"fire_reset": False}, 0, 1),
    "time limit": ({"max_episode_agent_steps": 100}, 0, 1),
    "backend": ({"backend": "ale"}, 0, 1),
    "frame skip": ({"frame_skip": 2}, 1, 1),
    "pooling": ({"backend": "ale", "maxpool": False}, 1, 2),
    "scaling": ({"resize": "bilinear"}, 1, 1),
}


@pytest.mark.parametrize(("change", "said_to_players", "said_on_resume"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_player_may_differ_in_difficulty_and_is_told_of_inputs(
    change: dict, said_to_players: int, said_on_resume: int
) -> None:
    trained, asked = task(), task(**change)
    assert len(check_player(trained, asked)) == said_to_players
    assert len(check_resumed(trained, asked)) == said_on_resume


def test_only_settings_that_an_observation_uses_are_compared() -> None:
    assert check_resumed(task(), task(replace(SMALL, gain=1.0))) == ["observation.gain is 1.0, and was 8.0 in training"]
    stack = ObservationConfig(name="stack84")
    assert check_resumed(task(stack), task(replace(stack, gain=1.0))) == []


@pytest.fixture(scope="module")
def pong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration on Pong whose games are cut early, so that some have ended."""
    folder = tmp_path_factory.mktemp("runs") / "pong"
    argv = [
        "--env.actions",
        "2",
        "3",
        "--env.num-lanes",
        "2",
        "--policy.name",
        "linear",
        "--env.num-threads",
        "1",
        "--run.dir",
        str(folder),
    ]
    argv += ["--env.max-episode-agent-steps", "20", "--reinforce.rollout-agent-steps", "32"]
    argv += ["--run.dir", str(folder)]
    run(*argv, "--reinforce.minibatch-agent-steps", "0", "--run.budget-agent-steps", "64")
    return folder


def test_a_policy_plays_what_its_actions_mean_and_nothing_else(pong: Path) -> None:
    with pytest.raises(UserError, match="trained for the actions RIGHT, LEFT of Pong, .* UP, RIGHT of Pong"):
        evaluate([str(pong), "--env.full-action-space", "--env.actions", "2", "3"])
    assert not (pong / "evaluation.json").exists()
    assert evaluate([str(pong), "--env.full-action-space", "--env.actions", "RIGHT", "LEFT", "--episodes", "1"]) == 0


def test_another_game_is_refused_on_resume_and_another_difficulty_begins_new_statistics(
    pong: Path, capsys: pytest.CaptureFixture
) -> None:
    before = (pong / "config.yaml").read_text()
    capsys.readouterr()
    run("--resume", str(pong), "--env.game", "Breakout", code=2)
    assert capsys.readouterr().err == (
        "jaxpg: env.game: this run is about Pong, and cannot go on with Breakout; begin a new run, without --resume\n"
    )
    assert (pong / "config.yaml").read_text() == before
    first = saved(pong)[2]
    assert len(first.last_returns) == first.episodes == 2
    run("--resume", str(pong), "--env.sticky-action-probability", "0.25", "--run.budget-agent-steps", "128")
    said = capsys.readouterr().err
    assert "env.sticky_action_probability is 0.25, and was 0.0 in training; the mean return of the last 100 " in said
    after = saved(pong)[2]
    assert len(after.last_returns) == after.episodes - first.episodes == 2
