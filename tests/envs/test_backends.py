"""Both real backends keep the same promises, on real games."""

from dataclasses import replace
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from ale_py import roms
from PIL import Image

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, TimeStep, VectorEnv
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import quiet_console
from tests.helpers import played

GRAY = EmulatorNeeds(kind="pixels", height=84, width=84, stack=2)
RGB = EmulatorNeeds(kind="pixels", height=210, width=160, color="rgb")
RAM = EmulatorNeeds(kind="ram")
VECTOR = EmulatorNeeds(kind="vector")
BACKENDS = ["envpool", "ale"]
FEWEST_NO_OPS = {"envpool": 1, "ale": 0}
LANES = [("envpool", GRAY), ("ale", GRAY), ("ale", RAM)]


def _random_actions(env: VectorEnv, num_agent_steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(env.spec.num_actions, size=(num_agent_steps, env.num_lanes))


def _lane(steps: list[TimeStep], lane: int) -> list[np.ndarray]:
    return [np.stack([getattr(step, field)[lane] for step in steps]) for field in TimeStep._fields]


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_a_lane_is_a_function_of_its_own_seed_and_actions(backend: str, needs: EmulatorNeeds) -> None:
    config = EnvConfig(game="MsPacman", backend=backend, num_threads=2, sticky_action_probability=0.25)
    env = make_env(config, needs, 3)
    actions = _random_actions(env, 60)
    env.reset(np.array([5, 6, 5]))
    first = played(env, np.stack([actions[:, 0]] * 3, axis=1))
    env.reset(np.array([5, 6, 5]))
    again = played(env, np.stack([actions[:, 0]] * 3, axis=1))
    env.close()
    alone = make_env(config, needs, 1)
    alone.reset(np.array([6]))
    single = played(alone, actions[:, :1])
    alone.close()
    for lane in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(_lane(first, lane), _lane(again, lane), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(_lane(first, 0), _lane(first, 2), strict=True))
    assert not np.array_equal(_lane(first, 0)[0], _lane(first, 1)[0]), "another seed is another game"
    assert all(np.array_equal(a, b) for a, b in zip(_lane(first, 1), _lane(single, 0), strict=True))


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_life_loss_game_over_and_autoreset_are_told_apart(backend: str, needs: EmulatorNeeds) -> None:
    env = make_env(EnvConfig(game="Breakout", backend=backend), needs, 2)
    env.reset(np.array([1, 2]))
    actions = np.ones((1500, 2), int)  # FIRE at every step: serves the ball and never moves
    life_losses = np.zeros(2, int)
    games = np.zeros(2, int)
    previous = env.recv()
    assert not previous.acted.any()
    for row in actions:
        env.send(row)
        step = env.recv()
        for lane in range(2):
            ended = previous.terminated[lane] or previous.truncated[lane]
            assert step.acted[lane] != ended, "the step after an end ignores its action, no other does"
            if ended:
                if needs is GRAY:
                    newest, before = step.observation[lane, 1], step.observation[lane, 0]
                    assert np.array_equal(newest, before), "the stack of a new game is filled with its first frame"
                assert step.reward[lane] == 0
                assert not any((step.terminated[lane], step.truncated[lane], step.life_lost[lane]))
            if step.terminated[lane]:
                assert life_losses[lane] == 4, "five lives: four losses, and the fifth ends the game"
                assert not step.life_lost[lane]
                life_losses[lane] = 0
                games[lane] += 1
            life_losses[lane] += step.life_lost[lane]
        previous = step
        if games.min() >= 2:
            break
    env.close()
    assert games.min() >= 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stack_of_four_moves_down_by_one_and_never_reaches_back_before_the_game(backend: str) -> None:
    needs = EmulatorNeeds(kind="pixels", height=84, width=84, stack=4)
    env = make_env(EnvConfig(game="Pong", backend=backend, max_episode_agent_steps=9), needs, 2)
    env.reset(np.array([1, 2]))
    steps = played(env, _random_actions(env, 30))
    env.close()
    for before, after in pairwise(steps):
        for lane in range(2):
            if after.acted[lane]:
                assert np.array_equal(after.observation[lane, :3], before.observation[lane, 1:])
            else:
                assert (after.observation[lane] == after.observation[lane, 3]).all()
                assert after.observation[lane].any()


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_the_time_limit_truncates_and_does_not_terminate(backend: str, needs: EmulatorNeeds) -> None:
    config = EnvConfig(game="Pong", backend=backend, max_episode_agent_steps=30)  # not counting the no-ops before it
    env = make_env(config, needs, 2)
    env.reset(np.array([1, 2]))
    steps = played(env, _random_actions(env, 80))
    env.close()
    truncated = np.array([step.truncated for step in steps])
    acted = np.array([step.acted for step in steps])
    assert np.flatnonzero(truncated.all(axis=1)).tolist() == [30, 61], "after 30 agent steps, and a new game's start"
    assert truncated.sum() == 4
    assert not np.array([step.terminated for step in steps]).any()
    assert np.array_equal(acted[1:], ~truncated[:-1])


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_the_last_observation_of_a_truncated_game_is_its_last(backend: str, needs: EmulatorNeeds) -> None:
    config = EnvConfig(game="Pong", backend=backend, sticky_action_probability=0.25)
    whole, cut = make_env(config, needs, 2), make_env(replace(config, max_episode_agent_steps=30), needs, 2)
    actions = _random_actions(whole, 45)
    streams = []
    for env in (whole, cut, cut):
        env.reset(np.array([1, 2]))
        streams.append(played(env, actions))
        actions[30] = 5 - actions[30]  # which is ignored where a game has been cut
    whole.close()
    cut.close()
    for before, after, other in zip(*(stream[:31] for stream in streams), strict=True):
        assert np.array_equal(before.observation, after.observation)
        assert np.array_equal(before.reward, after.reward)
        assert np.array_equal(after.observation, other.observation)
    assert not streams[1][31].acted.any()
    assert streams[1][32].acted.all()
    for one, again in zip(streams[1][31:], streams[2][31:], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True)), "a new game after an ignored action"


@pytest.mark.parametrize("needs", [GRAY, RAM])
def test_a_game_that_the_limit_cuts_just_before_its_end_is_followed_by_a_whole_one(needs: EmulatorNeeds) -> None:
    def ends(max_episode_agent_steps: int) -> list[tuple[int, bool]]:
        config = EnvConfig(game="Breakout", backend="ale", max_episode_agent_steps=max_episode_agent_steps, noop_max=0)
        env = make_env(config, needs, 1)
        env.reset(np.array([1]))
        steps = played(env, np.ones((420, 1), int))
        env.close()
        return [(t, bool(step.terminated[0])) for t, step in enumerate(steps) if step.terminated[0] | step.truncated[0]]

    (length, over), (second, _) = ends(27_000)[:2]
    assert over
    assert second == 2 * length + 1
    assert ends(length - 1)[:2] == [(length - 1, False), (2 * length - 1, False)]


@pytest.mark.parametrize(
    ("backend", "remark"),
    [("envpool", "and EnvPool shows only the upper 210; --env.backend ale"), ("ale", "which ALE squeezes into 84")],
)
def test_a_picture_of_more_than_210_rows_is_remarked_on(backend: str, remark: str) -> None:
    tall, usual = (make_env(EnvConfig(game=game, backend=backend), GRAY, 1) for game in ("AirRaid", "Pong"))
    tall.close()
    usual.close()
    assert tall.spec.remark.startswith("AirRaid's picture has 250 rows, ")
    assert remark in tall.spec.remark
    assert not usual.spec.remark


@pytest.mark.parametrize("backend", BACKENDS)
def test_ale_squeezes_a_tall_picture_and_envpool_cuts_it(backend: str) -> None:
    console = quiet_console()
    console.setFloat("repeat_action_probability", 0)
    console.loadROM(roms.get_rom_path("air_raid"))
    screens = []
    for _ in range(40):
        console.act(0)
        screens.append(console.getScreenRGB())
    exact = EnvConfig(game="AirRaid", backend=backend, frame_skip=1, maxpool=False, fire_reset=False)
    env = make_env(replace(exact, noop_max=FEWEST_NO_OPS[backend]), RGB, 1)
    env.reset(np.array([1]))
    last = played(env, np.zeros((30, 1), int))[-1]
    env.close()
    seen = np.moveaxis(np.transpose(last.observation[0], env.spec.axes)[0], 0, -1).astype(float)
    squeezed = [np.asarray(Image.fromarray(screen).resize((160, 210), Image.Resampling.BOX)) for screen in screens]
    upper = [screen[:210] for screen in screens]
    nearest_squeezed, nearest_upper = (min(abs(seen - s).mean() for s in those) for those in (squeezed, upper))
    if backend == "envpool":
        assert nearest_upper == 0 < nearest_squeezed
    else:
        assert nearest_squeezed < 1 < nearest_upper, "ALE and Pillow round differently"


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_a_game_that_ends_at_the_time_limit_is_over_and_not_cut(backend: str, needs: EmulatorNeeds) -> None:
    def first_end(max_episode_agent_steps: int) -> tuple[int, bool, bool]:
        config = EnvConfig(
            game="Breakout",
            backend=backend,
            max_episode_agent_steps=max_episode_agent_steps,
            noop_max=FEWEST_NO_OPS[backend],
            fire_reset=False,
        )
        env = make_env(config, needs, 1)
        env.reset(np.array([1]))
        env.recv()
        for t in range(1, 1000):
            env.send(np.array([1]))  # FIRE: serves the ball and never moves
            step = env.recv()
            if step.terminated[0] or step.truncated[0]:
                env.close()
                return t, bool(step.terminated[0]), bool(step.truncated[0])
        raise AssertionError("no end within 1,000 agent steps")

    length, *ended = first_end(27_000)
    assert ended == [True, False]
    assert first_end(length) == (length, True, False)
    assert first_end(length - 1) == (length - 1, False, True)


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_rewards_are_the_unclipped_score(backend: str, needs: EmulatorNeeds) -> None:
    env = make_env(EnvConfig(game="MsPacman", backend=backend), needs, 2)
    env.reset(np.array([1, 2]))
    rewards = {float(r) for step in played(env, np.full((120, 2), 3)) for r in step.reward}
    env.close()
    assert 10.0 in rewards, "a pellet is worth 10"


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_an_action_subset_reaches_the_emulator_translated(backend: str, needs: EmulatorNeeds) -> None:
    config = EnvConfig(game="Pong", backend=backend)
    whole, subset = make_env(config, needs, 1), make_env(replace(config, actions=(3, 2)), needs, 1)
    streams = []
    for env, actions in ((whole, [3] * 20 + [2] * 20), (subset, [0] * 20 + [1] * 20)):
        env.reset(np.array([9]))
        streams.append(_lane(played(env, np.array(actions)[:, None]), 0))
        env.close()
    assert subset.spec.num_actions == 2
    assert all(np.array_equal(a, b) for a, b in zip(*streams, strict=True))


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_wrong_actions_raise_and_the_lanes_live_on(backend: str, needs: EmulatorNeeds) -> None:
    env = make_env(EnvConfig(game="Pong", backend=backend), needs, 2)
    env.reset(np.array([1, 2]))
    env.recv()
    for wrong in (np.array([0, -1]), np.array([0, 6]), np.array([0.0, 1.0]), np.array([0])):
        with pytest.raises(ValueError, match="actions must"):
            env.send(wrong)
    env.send(np.array([0, 5]))
    assert env.recv().acted.all()
    env.close()


@pytest.mark.parametrize(("needs", "obs_type", "num_games"), [(RGB, "rgb", 1), (RAM, "ram", 3)])
def test_ale_is_gymnasiums_v5_environment_step_by_step(needs: EmulatorNeeds, obs_type: str, num_games: int) -> None:
    seed = 8  # whose emulator seed is not negative: ALE's vector environment draws its own for those
    config = EnvConfig(
        game="MsPacman", backend="ale", sticky_action_probability=0.25, maxpool=False, noop_max=0, fire_reset=False
    )
    env = make_env(config, needs, 1)
    lane_seed = np.random.SeedSequence(seed).generate_state(2)[1].astype(np.int32)
    env.reset(np.array([lane_seed], np.int64))
    single = gymnasium.make("ALE/MsPacman-v5", obs_type=obs_type)
    observation, _ = single.reset(seed=seed)
    assert np.array_equal(env.recv().observation[0].reshape(observation.shape), observation)
    games, score = 0, 0.0
    for row in np.random.default_rng(0).integers(9, size=(2500, 1)):
        env.send(row)
        step = env.recv()
        if step.acted[0]:
            observation, reward, terminated, truncated, _ = single.step(row[0])
            assert step.reward[0] == reward
            assert (step.terminated[0], step.truncated[0]) == (terminated, truncated)
            score += float(reward)
            games += terminated
        else:
            observation, _ = single.reset()  # without a seed: the emulator's random numbers go on
        if games == num_games:  # at its end ALE's vector environment emulates less than four frames
            break
        assert np.array_equal(step.observation[0].reshape(observation.shape), observation)
    assert games == num_games
    assert score > 0
    single.close()
    env.close()


@pytest.mark.parametrize(("backend", "needs"), LANES)
@pytest.mark.parametrize("fire_reset", [True, False])
def test_fire_serves_the_first_ball(backend: str, needs: EmulatorNeeds, fire_reset: bool) -> None:
    config = EnvConfig(game="Breakout", backend=backend, fire_reset=fire_reset, noop_max=FEWEST_NO_OPS[backend])
    env = make_env(config, needs, 1)
    env.reset(np.array([1]))
    steps = played(env, np.zeros((60, 1), int))
    env.close()
    assert sum(step.life_lost[0] for step in steps) == fire_reset, "without a ball nobody loses a life"


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_the_full_action_space_has_18_actions(backend: str, needs: EmulatorNeeds) -> None:
    whole = make_env(EnvConfig(game="Pong", backend=backend, full_action_space=True), needs, 1)
    minimal = make_env(EnvConfig(game="Pong", backend=backend), needs, 1)
    assert (whole.spec.num_actions, minimal.spec.num_actions) == (18, 6)
    whole.close()
    minimal.close()


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_no_ops_delay_the_games(backend: str, needs: EmulatorNeeds) -> None:
    starts = []
    for noop_max in (FEWEST_NO_OPS[backend], 30):
        config = EnvConfig(game="Seaquest", backend=backend, noop_max=noop_max, max_episode_agent_steps=9)
        env = make_env(config, needs, 4)
        env.reset(np.array([1, 2, 3, 4]))
        steps = played(env, np.zeros((40, env.num_lanes), int))
        env.close()
        starts.append({step.observation[lane].tobytes() for step in steps for lane in np.flatnonzero(~step.acted)})
    without, with_no_ops = starts
    assert len(with_no_ops) >= 6, "a game starts at a moment of its own"
    assert len(without) <= 2


def test_ram_is_given_by_envpool() -> None:
    env = make_env(EnvConfig(game="MsPacman"), RAM, 2)
    env.reset(np.array([1, 2]))
    steps = played(env, _random_actions(env, 5))
    env.close()
    assert steps[-1].observation.shape == (2, 128)
    assert (steps[-1].observation != steps[1].observation).any()


def test_every_game_of_ale_has_a_name_and_a_wrong_one_gets_the_nearest() -> None:
    for backend in BACKENDS:
        with pytest.raises(UserError, match="did you mean 'Breakout'"):
            make_env(EnvConfig(game="breakuot", backend=backend), GRAY, 1)
    with pytest.raises(UserError, match="unknown name 'Humanoid'"):
        make_env(EnvConfig(game="Humanoid"), GRAY, 1)
    for game in ("TicTacToe3d", "UpNDown", "Pitfall2", "MrDo"):
        make_env(EnvConfig(game=game, backend="ale"), GRAY, 1).close()


@pytest.mark.parametrize(
    ("config", "needs", "key"),
    [
        (EnvConfig(backend="envpol"), GRAY, "env.backend: .*'envpool'"),
        (EnvConfig(game="CartPole-v1"), GRAY, "observation.name: .*vector"),
        (EnvConfig(game="Pong"), VECTOR, "observation.name: .*Atari"),
        (EnvConfig(game="CartPole-v1", backend="ale"), VECTOR, "env.game"),
        (EnvConfig(game="Pong", backend="ale"), VECTOR, "observation.name: .*envpool"),
        (EnvConfig(game="Pog", backend="ale"), RAM, "env.game: .*'Pong'"),
        (EnvConfig(game="Pong", backend="ale", actions=(2, 17)), RAM, "env.actions"),
        (EnvConfig(game="Pong", backend="ale", resize="bilinear"), GRAY, "env.resize"),
        (EnvConfig(game="Pong", noop_max=0), GRAY, "env.noop_max"),
        (EnvConfig(game="Pong", maxpool=False), GRAY, "env.maxpool"),
        (EnvConfig(game="Pong", actions=(2, 17)), GRAY, "env.actions"),
        (EnvConfig(game="Match", backend="probe"), GRAY, "observation.name"),
        (EnvConfig(game="Mtach", backend="probe"), VECTOR, "env.game: .*'Match'"),
    ],
)
def test_what_a_backend_cannot_do_is_said_at_once(config: EnvConfig, needs: EmulatorNeeds, key: str) -> None:
    with pytest.raises(UserError, match=key):
        make_env(config, needs, 1)


@pytest.mark.parametrize(("backend", "needs"), LANES)
def test_the_longest_game_of_the_longest_agent_steps_can_be_asked_for(backend: str, needs: EmulatorNeeds) -> None:
    config = EnvConfig(backend=backend, max_episode_agent_steps=2**31 - 1, frame_skip=64, num_threads=1)
    env = make_env(config, needs, 1)
    env.reset(np.zeros(1, int))
    assert not env.recv().truncated
    env.close()


def test_long_making_of_emulators_is_said_before_it_begins(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env(EnvConfig(game="Pong"), GRAY, 2)
    with caplog.at_level("INFO", "jaxpg"):
        env.reset(np.array([1, 2]))
        assert caplog.messages == [], "two emulators take a fifth of a second"
        monkeypatch.setattr("jaxpg.envs.envpool.own_cores", lambda: [0])
        monkeypatch.setattr("jaxpg.envs.envpool.SECONDS_PER_LANE", 20.0)
        env.reset(np.array([1, 2]))
    env.close()
    assert caplog.messages == ["jaxpg: making 2 emulators, for about 40 s"]
