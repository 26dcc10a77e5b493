"""Gymnasium environments as lanes: against Gymnasium itself, what they may show, and what goes wrong with them."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from jaxpg.core.errors import FaultError, UserError
from jaxpg.core.types import DrawingEnv, EmulatorNeeds, TimeStep
from jaxpg.envs import make_display, make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.gymnasium import kind
from jaxpg.envs.gymnasium_group import LaneGroup, Making
from jaxpg.kernel.task import Task, check_player, check_resumed
from jaxpg.policies.observations import ObservationConfig, make_observation
from tests.envs.odd_lanes import PICTURE, VECTOR, config_of, made, played, register

STEPS_BEFORE = 2
"""Agent steps of an episode before the odd environment misbehaves."""


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


def _equal(one: list[TimeStep], other: list[TimeStep]) -> bool:
    return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def test_a_lane_is_gymnasiums_environment_step_by_step() -> None:
    env = made(config_of("CartPole-v1", num_lanes=2))
    steps = played(env, 120, seed=7)
    actions = np.random.default_rng(7).integers(2, size=(120, 2))
    single = gymnasium.make("CartPole-v1")
    observation, _ = single.reset(seed=14)
    assert np.array_equal(steps[0].observation[1], observation)
    assert not steps[0].acted.any()
    for action, before, step in zip(actions[:, 1], steps, steps[1:], strict=False):
        if before.terminated[1]:
            observation, _ = single.reset()
            expected = (0.0, False, False, False)
        else:
            observation, reward, terminated, truncated, _ = single.step(action)
            expected = (reward, terminated, truncated, True)
        assert np.array_equal(step.observation[1], observation)
        assert (step.reward[1], step.terminated[1], step.truncated[1], step.acted[1]) == expected
    assert sum(step.terminated.sum() for step in steps) > 4
    single.close()
    env.close()


def test_lanes_are_a_function_of_their_seeds_and_differ() -> None:
    env = made(config_of("CartPole-v1"))
    first, again, other = played(env, 30), played(env, 30), played(env, 30, seed=7)
    assert _equal(first, again)
    assert not np.array_equal(first[0].observation[0], first[0].observation[1])
    assert np.array_equal(first[0].observation[1:], other[0].observation[:-1])
    kept = first[5].observation.copy()
    env.close()
    assert np.array_equal(first[5].observation, kept), "what was received stays as it was"


def test_processes_play_what_this_process_plays(capfd: pytest.CaptureFixture) -> None:
    alone, shared = made(config_of("CartPole-v1", 5)), made(config_of("CartPole-v1", 5, workers=2))
    assert _equal(played(alone, 90), played(shared, 90))
    assert _equal(played(alone, 20, seed=3), played(shared, 20, seed=3)), "after a reset with other seeds"
    shared.send(np.zeros(5, int))
    assert _equal(played(alone, 40), played(shared, 40)), (
        "an answer that nobody waits for is not taken for the next one"
    )
    pids = [worker.process.pid for worker in shared._lanes._workers]  # type: ignore[attr-defined]
    assert len(pids) == 2
    alone.close()
    shared.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("game", ["Short-v0", "Odd-v0"])
def test_the_shorter_limit_truncates_and_the_last_observation_is_shown(game: str) -> None:
    for limit, length in ((27_000, 4 if game == "Short-v0" else None), (2, 2)):
        env = made(config_of(game, limit=limit, **({"length": 99} if game == "Odd-v0" else {})))
        steps = played(env, 10)
        env.close()
        cut = [t for t, step in enumerate(steps) if step.truncated.any()]
        assert cut == ([] if length is None else list(range(length, 10, length + 1)))
        for t in cut:
            assert (steps[t].observation[:, 0] == length).all(), "the count of the last agent step"
            assert steps[t].acted.all()
            assert not steps[t].terminated.any()
            assert not steps[t + 1].acted.any()
            assert (steps[t + 1].observation[:, 0] == 0).all()
    env = made(config_of("Short-v0", length=4))
    ends = played(env, 4)[-1]
    env.close()
    assert ends.terminated.all(), "an episode that ends at the limit is over"
    assert not ends.truncated.any()


def test_actions_begin_where_the_environment_says_and_may_be_a_subset() -> None:
    env = made(config_of(num_lanes=2))
    env.reset(np.array([1, 2]))
    env.recv()
    env.send(np.array([0, 2]))
    assert env.recv().reward.tolist() == [1.0, 3.0], "the environment's actions are 1 to 3"
    with pytest.raises(ValueError, match="must lie in 0 .. 2"):
        env.send(np.array([0, 3]))
    env.close()
    config = EnvConfig(game="Odd-v0", backend="gymnasium", options={"size": 3}, actions=(2, 0))
    subset = make_env(config, VECTOR, 1)
    subset.reset(np.array([1]))
    subset.recv()
    subset.send(np.array([0]))
    assert subset.recv().reward.tolist() == [3.0]
    subset.close()


@pytest.mark.parametrize(
    ("sees", "needs", "shape", "dtype", "after_two"),
    [
        ("vector", VECTOR, (2,), np.float32, None),
        ("number", VECTOR, (5,), np.uint8, [0, 0, 1, 0, 0]),
        ("scalar", VECTOR, (1,), np.float32, [2.0]),
        ("flags", VECTOR, (3,), np.float32, None),
        ("gray", PICTURE, (4, 6), np.uint8, None),
        ("color", PICTURE, (4, 6, 3), np.uint8, None),
        ("floats", PICTURE, (3, 5, 4), np.float32, None),
    ],
)
def test_what_an_environment_may_show(sees: str, needs: EmulatorNeeds, shape: tuple, dtype: type, after_two) -> None:
    env_config = config_of(sees=sees)
    env = made(env_config, needs)
    steps = played(env, 2)
    env.close()
    assert kind(env_config) == needs.kind
    assert (env.spec.observation_shape, env.spec.observation_dtype) == (shape, dtype)
    assert (steps[2].observation.shape, steps[2].observation.dtype) == ((3, *shape), dtype)
    if sees != "vector":
        assert steps[2].observation[1].tolist() == (after_two or np.full(shape, 2).tolist())
    observation = make_observation(ObservationConfig(name=needs.kind))
    canonical = np.transpose(steps[2].observation[1], env.spec.axes)
    seen = np.asarray(observation.decode(observation.encode(canonical)))
    assert np.array_equal(seen, canonical)


@pytest.mark.parametrize(
    ("config", "needs", "sentence"),
    [
        (
            config_of("CartPole-v7"),
            VECTOR,
            "env.game: Gymnasium knows no environment 'CartPole-v7'; did you mean 'CartPole-v",
        ),
        (
            config_of("Zzz"),
            VECTOR,
            "env.game: Gymnasium knows no environment 'Zzz'; one of your own is registered by a file",
        ),
        (
            config_of("Nowhere-v0"),  # half of its letters are those of Gopher-v0
            VECTOR,
            "env.game: Gymnasium knows no environment 'Nowhere-v0'; one of your own is registered by a file",
        ),
        (
            config_of("NoSpace-v0"),
            VECTOR,
            r"environment.py:\d+: NoSpace must set self.observation_space in its __init__, to a space",
        ),
        (config_of("Three-v0"), VECTOR, r"Three must set self.action_space in its __init__, to a space .*, not 3"),
        (
            config_of("NoEnv-v0"),
            VECTOR,
            r"env.game: NoEnv-v0 cannot be made: The environment must inherit from the",
        ),
        (config_of("mine:X-v0"), VECTOR, "'mine:X-v0' would import mine; give --imports mine and --env.game X-v0"),
        (config_of("Pendulum-v1"), VECTOR, "continuous actions.*gymnasium.wrappers.DiscretizeAction"),
        (config_of("Blackjack-v1"), VECTOR, "of the kind Tuple, .*gymnasium.wrappers.FlattenObservation"),
        (config_of(sees="dict"), VECTOR, "of the kind Dict, .*gymnasium.wrappers.FlattenObservation"),
        (config_of(sees="words"), VECTOR, "of the kind Text, .*gymnasium.ObservationWrapper"),
        (config_of(acts="two"), VECTOR, "actions of the kind MultiDiscrete.*gymnasium.ActionWrapper"),
        (config_of(size=256), VECTOR, "Odd-v0 has 256 actions, and jaxpg takes at most 255"),
        (config_of(sees="gray"), VECTOR, r"gives a picture of \[4, 6\], not vector; use --observation.name picture"),
        (
            config_of(),
            EmulatorNeeds(kind="pixels"),
            "gives a vector of numbers, not pixels; use --observation.name vector",
        ),
        (config_of(wings=2), VECTOR, "env.options: Odd-v0 cannot be made with these options: .*'wings'"),
        (EnvConfig(game="Odd-v0", backend="gymnasium"), VECTOR, "env.options: .* missing 1 required.*'size'"),
        (config_of(render_mode="human"), VECTOR, "env.options: render_mode is not an option"),
        (config_of(max_episode_steps="many"), VECTOR, "env.options: max_episode_steps is a whole number, not 'many'"),
        (
            config_of(sees="nothing"),
            VECTOR,
            r"env.game: Odd-v0 cannot be made: KeyError: 'nothing' \(.*odd_environment.py:",
        ),
        (EnvConfig(game="Pong", options={"size": 3}), VECTOR, "env.options: is for --env.backend gymnasium"),
        (EnvConfig(game="Pong", workers=2), VECTOR, "env.workers: is for --env.backend gymnasium"),
    ],
)
def test_what_jaxpg_does_not_take_is_one_sentence(
    config: EnvConfig, needs: EmulatorNeeds, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxpg.core.user_modules._IMPORTED", {})  # by other tests of this process
    with pytest.raises(UserError, match=sentence):
        made(config, needs)


@pytest.mark.parametrize(
    ("game", "module", "line"),
    [
        ("LunarLander-v3", "Box2D", r"pip install \"gymnasium\[box2d\]\""),
        ("Needy-v0", "no_such_package", "pip install no_such"),
    ],
)
def test_a_missing_package_is_named_with_the_pip_line(game: str, module: str, line: str, monkeypatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("Needy-v0", "no_such_package.envs:Needy")
    monkeypatch.setitem(gymnasium.registry, "Needy-v0", spec)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d", raising=False)
    with pytest.raises(UserError, match=f"{game} needs a package that is missing: .*{line}"):
        made(config_of(game))


def test_the_lanes_of_a_group_have_their_numbers_in_the_run() -> None:
    group = LaneGroup(Making("Odd-v0", {"size": 3, "does": "raise"}, 9), range(2, 4))
    group.reset(np.array([1, 2]))
    for _ in range(STEPS_BEFORE):
        group.step(np.array([1, 1]))
    with pytest.raises(FaultError, match="^Odd-v0, lane 2: step raised"):
        group.step(np.array([1, 1]))
    group.close()


def test_a_wrong_number_is_noticed_and_an_honest_environment_is_not_blamed() -> None:
    env = made(config_of(sees="number", does="number"))
    with pytest.raises(FaultError, match="lane 0: its observation is number 7 of 5"):
        played(env, 9)
    env.close()
    env = made(config_of(does="honest"))
    assert len(played(env, 20)) == 21
    env.close()


@pytest.mark.parametrize(
    ("does", "sentence"),
    [
        ("raise", r"^Odd-v0, lane 0: step raised RuntimeError: the rope broke \("),
        ("die", "^the process of Odd-v0's lanes 0 to 1 ended with exit code 3$"),
    ],
)
def test_a_process_that_fails_or_dies_is_one_sentence(does: str, sentence: str) -> None:
    env = made(config_of(num_lanes=4, workers=2, does=does))
    with pytest.raises(FaultError, match=sentence):
        played(env, 9)
    env.close()


def test_an_environment_works_while_its_answer_is_waited_for() -> None:
    """The watchdog looks only at waiting, and must notice an environment that never answers."""
    env = made(config_of(does="raise"))
    played(env, STEPS_BEFORE)
    env.send(np.zeros(3, int))
    with pytest.raises(FaultError):
        env.recv()
    env.close()


@pytest.mark.long
def test_a_process_that_hangs_ends_with_a_trainer_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(
        "import numpy as np\nfrom tests.envs.odd_lanes import config_of, made, played, register\n"
        "register()\n"
        "env = made(config_of(num_lanes=2, workers=2, does='hang'))\n"
        f"played(env, {STEPS_BEFORE})\n"
        "env.send(np.zeros(2, int))\n"
        "print(*(worker.process.pid for worker in env._lanes._workers), flush=True)\n"
        "env.recv()\n"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True) as trainer:
        assert trainer.stdout
        pids = trainer.stdout.readline().split()
        assert len(pids) == 2
        trainer.kill()
    for _ in range(200):
        states = [Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in pids if Path(f"/proc/{pid}").exists()]
        if set(states) <= {"Z"}:  # in a container nobody may take the end of an orphan
            return
        time.sleep(0.05)
    raise AssertionError(f"processes {pids} are still there")


def test_a_process_that_hangs_is_killed_by_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxpg.envs.gymnasium_workers.SECONDS_TO_END", 0.1)
    env = made(config_of(num_lanes=1, workers=1, does="hang"))
    played(env, STEPS_BEFORE)
    env.send(np.zeros(1, int))
    (worker,) = env._lanes._workers  # type: ignore[attr-defined]
    env.close()
    assert worker.process.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(worker.process.pid, 0)


def test_pictures_come_from_the_environment_where_it_draws() -> None:
    display = make_display(config_of("CartPole-v1", num_lanes=8), VECTOR)
    assert isinstance(display, DrawingEnv)
    display.reset(np.array([1]))
    display.recv()
    first = display.picture()
    assert first is not None
    assert (first.shape, first.dtype, display.agent_steps_per_second) == ((400, 600, 3), np.uint8, 50)
    for _ in range(5):
        display.send(np.array([1]))
        display.recv()
    assert not np.array_equal(first, display.picture())
    display.close()
    plain = make_display(config_of(), VECTOR)
    assert isinstance(plain, DrawingEnv)
    assert (plain.picture(), plain.agent_steps_per_second) == (None, None)
    plain.close()


def test_the_options_are_part_of_the_task() -> None:
    one, other = config_of(length=6), config_of(length=7)
    env = made(one)
    tasks = [Task.of(config, ObservationConfig(name="vector"), VECTOR, env.spec) for config in (one, other)]
    env.close()
    said = ["env.options.length is 7, and was 6 in training"]
    assert check_player(*tasks) == said == check_resumed(*tasks)
    assert check_player(tasks[0], tasks[0]) == []


def test_a_picture_with_channels_first_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    def stacked(**options: Any) -> gymnasium.Env:
        return gymnasium.wrappers.FrameStackObservation(gymnasium.make("Odd-v0", size=2, sees="gray"), 3)

    gymnasium_spec = gymnasium.envs.registration.EnvSpec("Stacked-v0", stacked)
    monkeypatch.setitem(gymnasium.registry, "Stacked-v0", gymnasium_spec)
    env = made(config_of("Stacked-v0"), PICTURE)
    steps = played(env, 3)
    env.close()
    assert np.transpose(steps[3].observation[0], env.spec.axes)[1, 1].tolist() == [1, 2, 3], "oldest frame first"
    assert all(np.array_equal(a.observation[:, 1:], b.observation[:, :-1]) for a, b in pairwise(steps))
