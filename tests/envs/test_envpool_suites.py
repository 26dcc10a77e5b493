"""EnvPool's environments besides Atari: what they give, and that their rules are those of their authors."""

import importlib.util
from collections import Counter
from itertools import pairwise

import gymnasium
import numpy as np
import pytest

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, TimeStep, VectorEnv
from jaxpg.envs import kind_of, make_env
from jaxpg.envs.action_names import NAMES
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool_suites import offered, registered, task

VECTOR, PICTURE = EmulatorNeeds(kind="vector"), EmulatorNeeds(kind="picture")
KINDS = {"vector": VECTOR, "picture": PICTURE}
SEEN = [
    ("CartPole-v1", VECTOR, (4,), np.float32),
    ("LunarLander-v3", VECTOR, (8,), np.float32),
    ("Highway-v0", VECTOR, (25,), np.float32),
    ("FrozenLake8x8-v1", VECTOR, (64,), bool),
    ("Blackjack-v1", VECTOR, (3,), np.int32),
    ("Catch-v0", VECTOR, (50,), np.float32),
    ("Catch-v0", PICTURE, (10, 5), np.float32),
    ("Play2048-v1", VECTOR, (496,), bool),
    ("MiniGrid-DoorKey-5x5-v0", PICTURE, (7, 7, 3), np.uint8),
    ("BabyAI-GoToLocal-v0", PICTURE, (7, 7, 3), np.uint8),
]


def _has_qt() -> bool:
    """Whether EnvPool can load Procgen, which needs a library of the system."""
    assert importlib.util.find_spec("envpool.procgen") is not None
    from envpool.procgen import _PROCGEN_IMPORT_ERROR

    return _PROCGEN_IMPORT_ERROR is None


def _make(game: str, needs: EmulatorNeeds, num_lanes: int, **settings) -> VectorEnv:
    return make_env(EnvConfig(game=game, num_threads=1, **settings), needs, num_lanes)


def _play(
    game: str, needs: EmulatorNeeds, seeds: list[int], num_agent_steps: int, *, alike: bool = False, **settings
) -> tuple[list[TimeStep], np.ndarray]:
    """Time steps 0 to T of a game with random actions, and the actions ``[T, N]``; ``alike`` in all lanes."""
    env = _make(game, needs, len(seeds), **settings)
    env.reset(np.array(seeds))
    shape = (num_agent_steps, 1 if alike else len(seeds))
    actions = np.random.default_rng(0).integers(env.spec.num_actions, size=shape).repeat(len(seeds) if alike else 1, 1)
    steps = [env.recv()]
    for row in actions:
        env.send(row)
        steps.append(env.recv())
    env.close()
    return steps, actions


def _check_steps(game: str, needs: EmulatorNeeds, num_agent_steps: int) -> tuple[list[TimeStep], VectorEnv]:
    """Plays two lanes with one seed and one with another, and checks what every environment promises."""
    steps, _ = _play(game, needs, [5, 6, 5], num_agent_steps, alike=True)
    again, _ = _play(game, needs, [5, 6, 5], num_agent_steps, alike=True)
    env = _make(game, needs, 3)
    env.close()
    assert not steps[0].acted.any()
    for before, after, other in zip(steps[:-1], steps[1:], again[1:], strict=True):
        assert after.observation.shape == (3, *env.spec.observation_shape)
        assert after.observation.dtype == env.spec.observation_dtype
        assert np.isfinite(after.observation).all()
        ended = before.terminated | before.truncated
        assert np.array_equal(after.acted, ~ended), "only the action after an end is ignored"
        assert not after.reward[ended].any()
        assert not (after.terminated | after.truncated)[ended].any()
        for field, repeated in zip(after, other, strict=True):
            assert np.array_equal(field, repeated), "a game is a function of its seed and its actions"
            assert np.array_equal(field[0], field[2]), "whatever the lane"
    return steps, env


@pytest.mark.parametrize(("game", "needs", "shape", "dtype"), SEEN, ids=lambda x: x if isinstance(x, str) else "")
def test_each_suite_steps_and_restarts(game: str, needs: EmulatorNeeds, shape: tuple[int, ...], dtype: type) -> None:
    steps, env = _check_steps(game, needs, 80)
    assert env.spec.observation_shape == shape
    assert env.spec.observation_dtype == dtype
    assert env.spec.frame_skip == 1
    assert any(not np.array_equal(step.observation[0], step.observation[1]) for step in steps), "seeds differ"
    if needs is VECTOR:
        assert kind_of(EnvConfig(game=game)) == "vector"


def test_procgen_gives_its_pictures_or_says_what_is_missing() -> None:
    if not _has_qt():
        with pytest.raises(UserError, match="env.game: EnvPool cannot load CoinrunEasy-v0: .* Qt 5 .*apt install"):
            kind_of(EnvConfig(game="CoinrunEasy-v0"))
        return
    steps, env = _check_steps("CoinrunEasy-v0", PICTURE, 40)
    assert np.transpose(steps[0].observation[0], env.spec.axes).shape == (64, 64, 3)
    assert env.spec.action_names[4] == "NOOP"


@pytest.mark.long
@pytest.mark.parametrize("package", sorted(set(registered().values())))
def test_every_environment_steps_or_is_refused_with_a_reason(package: str) -> None:
    reasons = Counter()
    for game in (name for name, its in registered().items() if its == package):
        try:
            kind = kind_of(EnvConfig(game=game))
        except UserError as error:
            reasons[str(error).replace(game, "").split(",")[0].split("(")[0]] += 1
        else:
            if package != "envpool.gfootball" or not reasons:
                _check_steps(game, KINDS[kind], 20)
            else:  # each of its lanes takes a second to begin
                _play(game, KINDS[kind], [1], 3)
            reasons[kind] += 1
    refused = Counter({reason: count for reason, count in reasons.items() if reason not in KINDS})
    match package.removeprefix("envpool."):
        case "minigrid" | "gfootball" | "craftax":
            assert not refused
        case "toy_text":
            assert refused.keys() == {"env.game: a game of  may last forever"}
            assert reasons["vector"] >= 7
        case "procgen":
            assert not refused or not _has_qt()
        case "classic_control" | "box2d" | "highway":
            assert refused.keys() <= {"env.game:  takes continuous actions", "env.game:  is for several players"}
            assert reasons["vector"] >= 2
        case "pgx" | "marlgrid" as suite:
            assert refused.keys() == {"env.game:  is for several players"}
            assert (reasons["vector"], reasons["picture"]) == ((1, 0) if suite == "pgx" else (0, 2))
        case "jumanji":
            assert "env.game:  gives several arrays at once " in refused
            assert not reasons["vector"] + reasons["picture"]
        case _:
            assert refused.total() == reasons.total()


def test_cartpole_is_gymnasiums_step_by_step() -> None:
    steps, actions = _play("CartPole-v1", VECTOR, [1, 2, 3, 4], 200)
    original = gymnasium.make("CartPole-v1").unwrapped
    ends = 0
    for lane in range(4):
        for t, step in enumerate(steps):
            if not step.acted[lane]:  # a new game, with a first state of EnvPool's own
                original.reset(seed=0)
                original.state = step.observation[lane].astype(float)
                continue
            observation, reward, terminated, _, _ = original.step(int(actions[t - 1, lane]))
            np.testing.assert_allclose(step.observation[lane], observation, atol=1e-5)
            assert step.reward[lane] == reward
            assert step.terminated[lane] == terminated
            ends += terminated
    assert ends > 20


def test_frozen_lake_makes_no_move_that_gymnasiums_cannot_make() -> None:
    steps, actions = _play("FrozenLake-v1", VECTOR, [1, 2, 3, 4], 1500)
    moves = gymnasium.make("FrozenLake-v1").unwrapped.P
    made = set()
    for t, (before, after) in enumerate(pairwise(steps)):
        assert (before.observation.sum(axis=1) == 1).all(), "a place is a vector with a single 1"
        for lane in range(4):
            place, action, to = before.observation[lane].argmax(), actions[t, lane], after.observation[lane].argmax()
            if after.acted[lane]:
                move = (to, after.reward[lane], after.terminated[lane])
                possible = {move[1:] for move in moves[place][action]}
                assert move in possible, f"{place} {action}"
                made.add((place, action, to))
            else:
                assert to == 0, "a new game begins at the start"
    assert len(made) > 100, "nearly all of the 148 possible moves"


def test_lunar_lander_pays_what_gymnasiums_does() -> None:
    """The reward is the gain of a potential minus fuel (Gymnasium's source), and 100 for a landing or a crash."""
    steps, actions = _play("LunarLander-v3", VECTOR, [1, 2], 400)

    def potential(o: np.ndarray) -> np.ndarray:
        return -100 * (np.hypot(o[:, 0], o[:, 1]) + np.hypot(o[:, 2], o[:, 3]) + abs(o[:, 4])) + 10 * (
            o[:, 6] + o[:, 7]
        )

    fuel = np.array([0, 0.03, 0.3, 0.03])  # the main engine is action 2
    crashes = 0
    for row, before, after in zip(actions, steps[:-1], steps[1:], strict=True):
        gained = potential(after.observation.astype(float)) - potential(before.observation.astype(float)) - fuel[row]
        usual = after.acted & ~after.terminated
        np.testing.assert_allclose(after.reward[usual], gained[usual], atol=1e-4)
        assert (after.reward[after.terminated] == -100).all()
        crashes += after.terminated.sum()
    assert crashes >= 4


@pytest.mark.parametrize(
    ("game", "needs", "settings", "limit"),
    [
        ("MountainCar-v0", VECTOR, {}, 200),
        ("MountainCar-v0", VECTOR, {"max_episode_agent_steps": 300}, 200),
        ("NChain-v0", VECTOR, {"max_episode_agent_steps": 50}, 50),
        ("BabyAI-GoToLocalS5N2-v0", PICTURE, {}, 25),  # the level's own
        ("BabyAI-GoToLocalS5N2-v0", PICTURE, {"max_episode_agent_steps": 10}, 10),
    ],
)
def test_the_shorter_time_limit_truncates(game: str, needs: EmulatorNeeds, settings: dict, limit: int) -> None:
    env = _make(game, needs, 1, **settings)
    env.reset(np.array([3]))
    env.recv()
    ends = []
    for t in range(1, 2 * limit + 2):
        env.send(np.zeros(1, int))
        step = env.recv()
        assert not step.terminated[0]
        ends += [t] if step.truncated[0] else []
    env.close()
    assert ends == [limit, 2 * limit + 1]


@pytest.mark.parametrize(
    ("game", "sentence"),
    [
        ("LunarLanderContinuous-v3", "takes continuous actions, .*; LunarLander-v3 takes one of a few$"),
        ("BipedalWalker-v3", "takes continuous actions, and a policy of jaxpg chooses one of a few$"),
        ("Ant-v5", "takes continuous actions"),
        ("Sudoku-v0", "takes several numbers as one action"),
        ("TicTacToe-v1", "for several players, and a policy of jaxpg plays alone"),
        ("CliffWalking-v1", "a game of CliffWalking-v1 may last forever, and EnvPool sets it no time limit"),
        ("Maze-v0", r"gives several arrays at once \(agent_position, .*, and a policy of jaxpg takes one"),
        ("VizdoomCustom-v1", "EnvPool cannot load VizdoomCustom-v1: .*does not exist"),
        ("LunarLander-v4", "unknown name 'LunarLander-v4'; did you mean 'LunarLander-v3'"),
        ("minigrid-empty-8x8", "did you mean 'MiniGrid-Empty-8x8-v0'"),
        ("Pong-v5", "did you mean 'Pong'"),
        ("FrozenLakes", "did you mean 'FrozenLake-v1'"),
        ("Nonsense", "envpool offers 104 Atari games, such as Pong .*, and other environments, such as CartPole-v1"),
    ],
)
def test_what_cannot_be_played_is_refused_with_a_reason(game: str, sentence: str) -> None:
    with pytest.raises(UserError, match=f"^env.game: .*{sentence}"):
        make_env(EnvConfig(game=game), VECTOR, 1)


def test_what_the_policy_does_not_see_is_said() -> None:
    env = _make("MiniGrid-Empty-5x5-v0", PICTURE, 1)
    env.close()
    assert env.spec.remark.endswith("sees the picture around the agent, and neither its direction nor its mission")


def test_minigrids_codes_fill_the_range_of_a_byte() -> None:
    steps, _ = _play("MiniGrid-DoorKey-5x5-v0", PICTURE, [1, 2], 30)
    objects, colours, states = np.moveaxis(np.stack([step.observation for step in steps]), -1, 0)
    assert set(np.unique(objects)) >= {25 * 1, 25 * 2, 25 * 4, 25 * 5}, "empty, wall, door and key"
    assert set(np.unique(colours)) >= {51 * 4, 51 * 5}, "the yellow door and key, and gray walls"
    assert set(np.unique(states)) >= {0, 2 * 85}, "the door is locked"


@pytest.mark.parametrize(
    ("game", "needs", "settings", "sentence"),
    [
        (
            "LunarLander-v3",
            PICTURE,
            {},
            "observation.name: LunarLander-v3 gives a vector .*use --observation.name vector",
        ),
        ("MiniGrid-Empty-5x5-v0", VECTOR, {}, "gives a picture; use --observation.name picture"),
        ("Pong", PICTURE, {}, "observation.name: Pong is an Atari game, which gives pixels or ram, no picture"),
        ("LunarLander-v3", VECTOR, {"frame_skip": 2}, "env.frame_skip: only Atari games .* LunarLander-v3 is none"),
        ("LunarLander-v3", VECTOR, {"sticky_action_probability": 0.25}, "env.sticky_action_probability: only Atari"),
        ("LunarLander-v3", VECTOR, {"full_action_space": True}, "env.full_action_space: only Atari"),
        (
            "Catch-v0",
            VECTOR,
            {"max_episode_agent_steps": 4},
            "EnvPool cannot cut a game of Catch-v0, which ends by its ",
        ),
        ("Highway-v0", VECTOR, {"max_episode_agent_steps": 9}, "own rules within 40 agent steps; leave this setting o"),
        ("LunarLander-v3", VECTOR, {"actions": ("UP",)}, "UP is not an action .*: NOOP, LEFT_ENGINE, MAIN_ENGINE, RI"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(game: str, needs: EmulatorNeeds, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _make(game, needs, 1, **settings)


def test_actions_have_their_authors_names() -> None:
    named = {game: task(game).action_names for game in ("CartPole-v1", "MiniGrid-Empty-5x5-v0", "NChain-v0")}
    assert named["CartPole-v1"] == ("LEFT", "RIGHT")
    assert named["MiniGrid-Empty-5x5-v0"][2] == "FORWARD"
    assert named["NChain-v0"] == ("0", "1"), "numbers where no source gives names"
    assert task("MiniGrid-Dynamic-Obstacles-5x5-v0").action_names == ("LEFT", "RIGHT", "FORWARD")
    assert task("Intersection-v0").action_names == ("SLOWER", "IDLE", "FASTER")
    assert all(len(set(names)) == len(names) for names in NAMES.values())


def test_moves_by_name_go_where_the_name_says() -> None:
    taxi = _make("Taxi-v3", VECTOR, 4, actions=("NORTH", "SOUTH"))
    taxi.reset(np.arange(4))
    rows = [taxi.recv().observation.argmax(axis=1) // 100]  # the taxi's row; row 0 is in the north
    for action in (0, 0, 0, 0, 1):
        taxi.send(np.full(4, action))
        rows.append(taxi.recv().observation.argmax(axis=1) // 100)
    taxi.close()
    assert rows[0].any()
    assert not rows[4].any()
    assert (rows[5] == 1).all()
    lander = _make("LunarLander-v3", VECTOR, 2, actions=("MAIN_ENGINE", "NOOP"))
    lander.reset(np.zeros(2, int))
    speed = lander.recv().observation[:, 3]
    for _ in range(20):
        lander.send(np.array([0, 1]))
        speed = lander.recv().observation[:, 3]
    lander.close()
    assert speed[0] > speed[1], "the main engine slows the fall"


def test_a_game_that_ends_by_its_own_rules_is_over_and_not_cut() -> None:
    steps, _ = _play("Catch-v0", VECTOR, [1, 2], 40)
    assert [t for t, step in enumerate(steps) if step.terminated.all()] == [9, 19, 29, 39]
    assert not any(step.truncated.any() for step in steps)


@pytest.mark.long
def test_a_time_limit_is_obeyed_or_refused() -> None:
    cut = Counter()
    for game, package in registered().items():
        try:
            env = _make(game, KINDS[kind_of(EnvConfig(game=game))], 2, max_episode_agent_steps=4)
        except UserError:
            continue
        env.reset(np.array([1, 2]))
        env.recv()
        for t in range(1, 6):
            env.send(np.zeros(2, int))
            step = env.recv()
            assert t != 5 or not step.acted.all(), game
            cut[package] += step.truncated.any()
        env.close()
    assert cut.keys() == {"envpool.classic_control", "envpool.box2d", "envpool.minigrid", "envpool.toy_text"}


def test_only_ids_that_may_work_are_suggested() -> None:
    assert {"LunarLander-v3", "FrozenLake-v1", "BigfishEasy-v0"} <= set(offered())
    assert not {"Ant-v5", "Pong-v5", "D1Basic-v1"} & set(offered())
