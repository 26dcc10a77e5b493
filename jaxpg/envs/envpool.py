"""Backend for EnvPool, which runs the emulators in C++ threads. This is the default, and it has far more than Atari."""

from functools import cache
from typing import Any, Literal

import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import CompiledEmulators, EmulatorNeeds, EnvSpec, RawAnswers, TimeStep
from jaxpg.envs import envpool_suites as suites
from jaxpg.envs.actions import ActionTable
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool_registry import atari_rom_ids, package_of, registry
from jaxpg.envs.games import SHORT_PICTURE_ROWS, cartridge, check_game, game_name, offered_actions, rom_ids_by_game
from jaxpg.envs.pictures import channels_last
from jaxpg.envs.seeds import check_seeds
from jaxpg.envs.threads import affinity_offset
from jaxpg.machine.console import say
from jaxpg.machine.cores import own_cores
from jaxpg.machine.signals import signals_left_to_the_system
from jaxpg.machine.waiting import SECONDS_UNTIL_SAID

SECONDS_PER_LANE = 0.1
"""Seconds of one core in which EnvPool makes the emulator of an Atari lane."""


def kind(game: str) -> Literal["pixels", "vector", "picture"]:
    """What the environment is meant to show a policy; an Atari game shows pixels.

    Raises:
      UserError: EnvPool has no such environment, or jaxpg cannot take it.
    """
    if game in rom_ids_by_game():  # without importing EnvPool
        return "pixels"
    if package_of(game) in (None, suites.ATARI):
        check_game(game, _atari_games(), "envpool", suites.offered())
    return suites.task(game).kind


def _atari_games() -> list[str]:
    return [game_name(rom_id) for rom_id in atari_rom_ids()]


class EnvPool:
    """``N`` lanes of one EnvPool environment in synchronous mode, which is bit-deterministic.

    EnvPool cannot re-seed a pool, so ``reset`` makes a new one.

    Raises:
      UserError: the game is unknown, EnvPool cannot provide the observation, or the action subset is wrong.
    """

    def __init__(self, config: EnvConfig, needs: EmulatorNeeds, num_lanes: int):
        self._make = registry().make_gymnasium
        self.num_lanes = num_lanes
        self._other = suites.task(config.game) if kind(config.game) != "pixels" else None
        self._ram = needs.kind == "ram"
        if self._other is None:
            check_game(config.game, _atari_games(), "envpool")
            self._task = f"{config.game}-v5"
            self._options = _atari_options(config, needs)
        else:
            self._task = config.game
            self._options = suites.options(config, needs)
        if self._other is None:
            offered = offered_actions(config)
            num_actions, space = _spaces(self._task, tuple(self._options.items()))
            assert len(offered) == num_actions, "EnvPool and ALE must have the same actions"
            shape, dtype = _raw_layout(needs, space)
            remark = _remark(config) if needs.kind == "pixels" else ""
        else:
            offered, dtype, remark = self._other.action_names, self._other.dtype, self._other.remark
            shape = suites.laid_out(self._other, needs)
        self._options |= {
            "num_threads": config.num_threads,
            "thread_affinity_offset": affinity_offset(config.num_threads, num_lanes),
        }
        self._actions = ActionTable(offered, config.actions, num_lanes)
        self.spec = EnvSpec(
            num_actions=len(self._actions),
            observation_shape=shape,
            observation_dtype=dtype,
            axes=channels_last(shape) if needs.kind == "picture" else tuple(range(len(shape))),
            frame_skip=config.frame_skip if self._other is None else 1,
            action_names=self._actions.names,
            remark=remark,
        )
        self._pool: Any = None
        self._lives = np.zeros(num_lanes, np.int32)
        self._ended = np.ones(num_lanes, bool)

    def reset(self, seeds: np.ndarray) -> None:
        check_seeds(seeds, self.num_lanes)
        self.close()
        seconds = SECONDS_PER_LANE * self.num_lanes / len(own_cores())
        if self._other is None and seconds > SECONDS_UNTIL_SAID:  # said first: making a pool holds Python's lock
            say(f"jaxpg: making {self.num_lanes} emulators, for about {seconds:.0f} s")
        with suites.unbounded_spaces(), signals_left_to_the_system():
            self._pool = self._make(
                self._task,
                num_envs=self.num_lanes,
                batch_size=self.num_lanes,
                env_seed=[int(s) for s in seeds],
                **self._options,
            )
            _ = self._pool.observation_space  # computed now; otherwise the first recv would do it
        self._ended[:] = True  # no action led to the first observation
        self._pool.async_reset()

    def send(self, actions: np.ndarray) -> None:
        self._pool.send(self._actions.translate(actions))

    def recv(self) -> TimeStep:
        observation, answers = self._read(self._pool.recv())
        rows = self.interpret(RawAnswers(*(x[None] for x in answers)))
        return TimeStep(observation, *(column[0] for column in rows[1:]))

    def compiled(self) -> CompiledEmulators:
        handle, recv, send, _ = self._pool.xla()
        lanes = np.arange(self.num_lanes, dtype=np.int32)

        def receive(handle: Any) -> tuple[Any, Any, RawAnswers]:
            handle, answer = recv(handle)
            return handle, *self._read(answer)

        def send_all(handle: Any, actions: Any) -> Any:
            return send(handle, actions, lanes)

        return CompiledEmulators(handle, self._actions.table, send_all, receive)

    def interpret(self, answers: RawAnswers) -> TimeStep:
        reward, terminated, truncated, game_over, answered_lives = map(np.asarray, answers)
        ended = terminated | truncated
        acted = ~np.concatenate([self._ended[None], ended[:-1]])
        lives = np.concatenate([self._lives[None], answered_lives])
        self._ended, self._lives = ended[-1], lives[-1]
        terminated = game_over.astype(bool)  # at the limit, EnvPool's own flag is false even if the game is over
        return TimeStep(
            observation=np.zeros(0, np.uint8),
            reward=np.where(acted, reward, 0).astype(np.float32),
            terminated=terminated & acted,
            truncated=truncated & ~terminated & acted,
            life_lost=(lives[1:] < lives[:-1]) & acted & ~ended,
            acted=acted,
        )

    def _read(self, answer: Any) -> tuple[Any, RawAnswers]:
        observation, reward, terminated, truncated, info = answer
        if self._other is not None:
            observation = self._other.read(observation)
        elif self._ram:
            observation = info["ram"]
        observation = observation.reshape(self.num_lanes, *self.spec.observation_shape)
        no_lives = np.zeros(self.num_lanes, np.int32)
        game_over, lives = (info["terminated"], info["lives"]) if self._other is None else (terminated, no_lives)
        return observation, RawAnswers(reward, terminated, truncated, game_over, lives)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


@cache
def _spaces(task: str, options: tuple[tuple[str, Any], ...]) -> tuple[int, Any]:
    """Number of actions and the observation space. Cached, because EnvPool takes a tenth of a second."""
    with suites.unbounded_spaces():
        spec = registry().make_spec(task, **dict(options))
        return int(spec.action_space.n), spec.observation_space


def _atari_options(config: EnvConfig, needs: EmulatorNeeds) -> dict[str, Any]:
    if needs.kind in ("vector", "picture"):
        raise UserError(f"observation.name: {config.game} is an Atari game, which gives pixels or ram, no {needs.kind}")
    if not config.maxpool and config.frame_skip > 1:
        raise UserError("env.maxpool: EnvPool always pools the last two frames; use --env.backend ale to turn it off")
    if config.noop_max < 1:
        raise UserError("env.noop_max: EnvPool needs at least 1 (it crashes at 0); use --env.backend ale for 0")
    frame = {"img_height": needs.height, "img_width": needs.width, "gray_scale": needs.color == "gray"}
    small = {"img_height": 1, "img_width": 1, "gray_scale": True}  # only the RAM is used
    return {
        **(small if needs.kind == "ram" else frame),
        "stack_num": needs.stack,
        "use_inter_area_resize": config.resize == "area",
        "frame_skip": config.frame_skip,
        "repeat_action_probability": config.sticky_action_probability,
        "noop_max": config.noop_max,
        "use_fire_reset": config.fire_reset,
        "full_action_space": config.full_action_space,
        "max_episode_steps": config.max_episode_agent_steps,
        "reward_clip": False,
        "episodic_life": False,
    }


def _remark(config: EnvConfig) -> str:
    rows = cartridge(config.game).picture_rows
    if rows <= SHORT_PICTURE_ROWS:
        return ""
    return (
        f"{config.game}'s picture has {rows} rows, and EnvPool shows only the upper {SHORT_PICTURE_ROWS}; "
        "--env.backend ale shows all rows"
    )


def _raw_layout(needs: EmulatorNeeds, space: Any) -> tuple[tuple[int, ...], np.dtype]:
    if needs.kind == "ram":
        return (128,), np.dtype(np.uint8)
    if needs.kind == "pixels" and needs.color == "rgb":
        return (needs.stack, 3, needs.height, needs.width), np.dtype(np.uint8)
    return tuple(space.shape), space.dtype
