"""Each observation against a plain numpy computation, on random and on real frames."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.config import load_recipe, packaged_recipes
from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, EnvSpec
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.pictures import channels_last
from jaxpg.policies.observations import (
    OBSERVATIONS,
    Observation,
    ObservationConfig,
    encoded_shape,
    input_shape,
    make_observation,
    unit_scale,
)

PONG = dataclasses.replace(load_recipe(packaged_recipes()["pong"]).observation, name="gray_difference")


def _see(observation: Observation, raw: np.ndarray) -> np.ndarray:
    """What the policy sees of ``[N, ...]`` canonical raw observations, jitted and vmapped as in the kernel."""
    return np.asarray(jax.jit(jax.vmap(lambda x: observation.decode(observation.encode(x))))(jnp.asarray(raw)))


def _random_frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)


def _real_frames(observation: Observation, game: str, num_agent_steps: int = 40, num_last: int = 1) -> np.ndarray:
    """What two lanes show at the last agent steps of so many, one after another."""
    env = make_env(EnvConfig(game=game), observation.needs, 2)
    env.reset(np.array([3, 4]))
    seen = [env.recv().observation.copy()]
    rng = np.random.default_rng(1)
    for _ in range(num_agent_steps):
        env.send(rng.integers(env.spec.num_actions, size=2))
        seen.append(env.recv().observation.copy())
    env.close()
    return np.concatenate(seen[-num_last:])


def _red_difference_in_numpy(previous: np.ndarray, newest: np.ndarray) -> np.ndarray:
    frames = []
    for frame in (previous, newest):  # [3, 210, 160]
        red = frame[0].astype(float)
        red[(red == 144) | (red == 109)] = 0
        frames.append(red)
    difference = (frames[1] - frames[0])[35:195][::2, ::2]
    largest = np.abs(difference).max()
    return difference / largest if largest > 0 else difference


def test_red_difference_is_the_notebooks() -> None:
    observation = make_observation(ObservationConfig(name="red_difference"))
    background = _random_frames(4, 2, 3, 210, 160)
    background[:, :, :, ::3] = 144
    background[:, :, :, 1::7] = 109
    for raw in (background, _real_frames(observation, "Pong")):
        by_hand = np.stack([_red_difference_in_numpy(lane[0], lane[1]) for lane in raw])
        np.testing.assert_allclose(_see(observation, raw), by_hand, atol=1e-6)
        assert np.abs(by_hand).max() == 1.0


def test_differences_are_zero_where_nothing_moved_as_on_a_first_step() -> None:
    for name in ("red_difference", "gray_difference"):
        observation = make_observation(ObservationConfig(name=name))
        env = make_env(EnvConfig(game="Pong"), observation.needs, 2)
        env.reset(np.array([1, 2]))
        assert not _see(observation, env.recv().observation).any()
        env.close()


@pytest.mark.parametrize("name", ["gray_difference", "gray_motion"])
def test_two_frames_in_numpy(name: str) -> None:
    config = ObservationConfig(
        name=name,
        height=20,
        width=10,
        first_row=3,
        end_row=17,
        first_column=1,
        end_column=8,
        background=(87, 3),
        gain=2.0,
    )
    raw = _random_frames(3, 2, 20, 10)
    raw[:, :, ::2] = 87
    raw[:, :, 1::4] = 3
    kept = np.where((raw == 87) | (raw == 3), 0, raw)[:, :, 3:17, 1:8] // 2
    newest = kept[:, 1].astype(float)
    difference = newest - kept[:, 0]
    by_hand = (difference if name == "gray_difference" else np.stack([newest, difference], -1)) * 2.0 / 127
    np.testing.assert_allclose(_see(make_observation(config), raw), by_hand, atol=1e-6)


def test_gray_difference_sees_the_ball_and_the_paddles_of_pong() -> None:
    observation = make_observation(dataclasses.replace(PONG, gain=1.0))
    seen = _see(observation, _real_frames(observation, "Pong", 60))
    moved = (seen != 0).sum(axis=(1, 2))
    assert (moved > 0).all()
    assert (moved < 120).all(), "almost all of the field is background"
    assert np.abs(seen).max() <= 1.0


def test_gray_motion_sees_a_paddle_that_stands_still() -> None:
    """Pong's paddle stands still while the player does nothing, and only the frame itself shows where."""
    players_column = {"first_column": PONG.end_column - 1, "end_column": PONG.end_column}
    observation = make_observation(dataclasses.replace(PONG, name="gray_motion", **players_column))
    env = make_env(EnvConfig(game="Pong"), observation.needs, 2)
    env.reset(np.array([3, 4]))
    for _ in range(20):
        env.recv()
        env.send(np.zeros(2, int))
    seen = _see(observation, env.recv().observation)
    env.close()
    frame, difference = seen[..., 0], seen[..., 1]
    assert (frame > 0).any(axis=(1, 2)).all()
    assert not difference.any()


def test_a_game_of_pong_does_not_begin_with_a_flash() -> None:
    """Its first frame has a field of its own, which a game with few no-ops shows."""
    for background, flashes in (((87,), True), (PONG.background, False)):
        observation = make_observation(dataclasses.replace(PONG, background=background))
        env = make_env(EnvConfig(game="Pong", noop_max=1), observation.needs, 2)
        env.reset(np.array([1, 2]))
        changed = []
        for _ in range(4):
            changed.append((_see(observation, env.recv().observation) != 0).sum(axis=(1, 2)))
            env.send(np.zeros(2, int))
        env.close()
        assert (np.max(changed) > 1000) == flashes
        assert flashes or np.max(changed) < 60


def test_gray_difference_keeps_both_paddles_of_pong_and_what_is_between() -> None:
    config = PONG
    whole = make_observation(dataclasses.replace(PONG, first_column=0, end_column=40))
    frames = _real_frames(whole, "Pong", num_agent_steps=79, num_last=20)
    still = frames[:, 0, config.first_row : config.end_row] != 87
    columns = np.flatnonzero(still.mean(axis=(0, 1)) > 0.1)  # a paddle stands in its column all the time
    assert columns.tolist() == [config.first_column, config.end_column - 1]


@pytest.mark.parametrize(
    ("side", "first", "end"), [("row", 0, 51), ("row", 20, 20), ("column", 0, 31), ("column", 9, 9)]
)
def test_gray_difference_refuses_what_is_outside_the_frame(side: str, first: int, end: int) -> None:
    settings: dict[str, Any] = {f"first_{side}": first, f"end_{side}": end}
    config = ObservationConfig(**{"height": 50, "width": 30, "end_row": 50, "end_column": 30, **settings})
    with pytest.raises(UserError, match=f"observation.first_{side}: {side}s {first} to {end} "):
        make_observation(config)


def _gray_by_gymnasium(frames: np.ndarray) -> np.ndarray:
    """``u8[..., H, W, 3]`` as gymnasium.wrappers.GrayscaleObservation computes it."""
    return np.sum(np.multiply(frames, np.array([0.2125, 0.7154, 0.0721])), axis=-1).astype(np.uint8)


@pytest.mark.parametrize("game", ["Pong", "MsPacman", "Breakout", "Seaquest", "Qbert", "SpaceInvaders"])
def test_flat_gray_is_gymnasiums_on_real_frames(game: str) -> None:
    observation = make_observation(ObservationConfig(name="flat_gray"))
    env = make_env(EnvConfig(game=game, backend="ale"), observation.needs, 2)
    env.reset(np.array([3, 4]))
    env.recv()
    for action in [1] * 30:
        env.send(np.full(2, action))
        raw = env.recv().observation
    env.close()
    seen = _see(observation, np.transpose(raw, (0, *(1 + axis for axis in env.spec.axes))))
    assert np.array_equal(seen, _gray_by_gymnasium(raw[:, 0]).reshape(2, -1))


def test_flat_gray_differs_from_gymnasiums_at_most_where_float64_rounds_down_a_whole_number() -> None:
    colours = np.random.default_rng(0).integers(0, 256, size=(10, 210, 160, 3), dtype=np.uint8)
    observation = make_observation(ObservationConfig(name="flat_gray"))
    seen = _see(observation, np.moveaxis(colours, -1, 1)[:, None])
    differs = seen.reshape(10, 210, 160) != _gray_by_gymnasium(colours)
    assert ((colours[differs].astype(int) @ [2125, 7154, 721]) % 10_000 == 0).all()
    assert differs.sum() <= 10


@pytest.mark.parametrize("side", [42, 84])
def test_a_stack_is_four_frames_of_bytes_newest_last(side: int) -> None:
    observation = make_observation(ObservationConfig(name=f"stack{side}"))
    assert (observation.needs.height, observation.needs.width, observation.needs.stack) == (side, side, 4)
    raw = _random_frames(2, 4, side, side)
    seen = _see(observation, raw)
    assert seen.shape == (2, side, side, 4)
    assert np.array_equal(seen, np.moveaxis(raw, 1, -1))
    np.testing.assert_allclose(unit_scale(jnp.asarray(seen)), seen / 255, atol=1e-6)


def test_ram_and_vector() -> None:
    ram = _random_frames(2, 128)
    np.testing.assert_allclose(_see(make_observation(ObservationConfig(name="ram")), ram), ram / 127.5 - 1, atol=1e-6)
    numbers = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    assert np.array_equal(_see(make_observation(ObservationConfig(name="vector")), numbers), numbers)


def test_a_picture_stays_as_it_is_and_only_its_bytes_stand_for_0_to_1() -> None:
    observation = make_observation(ObservationConfig(name="picture"))
    raw = _random_frames(2, 7, 5, 3)
    seen = _see(observation, raw)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, raw)
    for dtype in (np.int8, np.int32, np.float32, bool):
        numbers = np.arange(12).reshape(2, 2, 3).astype(dtype)
        seen = _see(observation, numbers)
        assert seen.dtype == np.float32
        assert np.array_equal(seen, numbers.astype(np.float32))


@pytest.mark.parametrize(("shape", "last"), [((3, 64, 48), (64, 48, 3)), ((7, 9, 3), (7, 9, 3)), ((10, 9), (10, 9))])
def test_channels_come_last(shape: tuple[int, ...], last: tuple[int, ...]) -> None:
    assert np.zeros(shape).transpose(channels_last(shape)).shape == last


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("stack42", np.uint8, (42, 42, 4)),
        ("stack84", np.uint8, (84, 84, 4)),
        ("gray_difference", np.int8, (70, 40)),
        ("gray_motion", np.int8, (70, 40, 2)),
        ("red_difference", np.int16, (80, 80)),
        ("flat_gray", np.uint8, (33_600,)),
        ("ram", np.uint8, (128,)),
    ],
)
def test_what_the_tape_keeps_is_small(name: str, dtype: type, shape: tuple[int, ...]) -> None:
    observation = make_observation(ObservationConfig(name=name))
    env = make_env(EnvConfig(game="Pong"), observation.needs, 1)
    assert encoded_shape(observation, env.spec).dtype == dtype
    assert input_shape(observation, env.spec) == shape


def test_names() -> None:
    assert set(OBSERVATIONS) == {
        "stack42",
        "stack84",
        "gray_difference",
        "gray_motion",
        "red_difference",
        "flat_gray",
        "vector",
        "ram",
        "picture",
    }
    with pytest.raises(UserError, match="did you mean 'stack84'"):
        make_observation(ObservationConfig(name="stack48"))


NEEDS = EmulatorNeeds(kind="vector")


def _one_by_zero(x: jax.Array) -> jax.Array:
    return x / (1 // 0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda config: 1 // 0, f"observation.name: 'mine': {__file__}:"),
        (lambda config: None, "observation.name: 'mine': the function must return an Observation, not NoneType"),
        (lambda config: Observation(NEEDS, _one_by_zero, jnp.asarray), "observation.name: encode: "),
        (lambda config: Observation(NEEDS, jnp.asarray, _one_by_zero), "observation.name: decode: "),
    ],
)
def test_a_mistake_in_ones_own_observation_is_a_sentence(make, sentence, monkeypatch) -> None:
    monkeypatch.setitem(OBSERVATIONS._entries, "mine", make)
    spec = EnvSpec(num_actions=2, observation_shape=(4,), observation_dtype=np.dtype(np.float32), axes=(0,))
    with pytest.raises(UserError) as refused:
        input_shape(make_observation(ObservationConfig(name="mine")), spec)
    assert str(refused.value).startswith(sentence)
    assert "NoneType" in str(refused.value) or "ZeroDivisionError: integer " in str(refused.value)


def test_ones_own_observation_may_return_a_number(monkeypatch) -> None:
    made = Observation(NEEDS, encode=lambda raw: raw[0], decode=lambda x: 3.0)
    monkeypatch.setitem(OBSERVATIONS._entries, "mine", lambda config: made)
    spec = EnvSpec(num_actions=2, observation_shape=(4,), observation_dtype=np.dtype(np.float32), axes=(0,))
    assert input_shape(make_observation(ObservationConfig(name="mine")), spec) == ()
