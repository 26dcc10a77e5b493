"""Backend for ALE's own vector environment. It follows Gymnasium exactly and does not need EnvPool."""

import numpy as np

from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, EnvSpec, TimeStep
from jaxpg.envs.actions import ActionTable
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import SHORT_PICTURE_ROWS, cartridge, check_game, offered_actions, rom_ids_by_game
from jaxpg.envs.seeds import check_seeds
from jaxpg.envs.threads import affinity_offset

NO_LIMIT = 2**31 - 1
"""Frame limit for ALE that is never reached. ALE's own limit would count no-ops and drop the last frame."""


class Ale:
    """``N`` lanes of one Atari game in ``ale_py.vector_env.AtariVectorEnv``.

    With frame skip 4, sticky actions 0.25, no pooling, no no-ops, no FIRE and raw RGB frames, each lane's first episode
    equals ``gymnasium.make("ALE/<Game>-v5")`` in every frame, reward and end. The next episodes draw other sticky
    actions, because ALE does not emulate the rest of an episode's last agent step.

    Raises:
      UserError: the game is unknown, ALE cannot provide the observation, or the action subset is wrong.
    """

    def __init__(self, config: EnvConfig, needs: EmulatorNeeds, num_lanes: int):
        from ale_py.vector_env import AtariVectorEnv  # imported here, because other backends do not need ALE

        rom_ids = rom_ids_by_game()
        check_game(config.game, rom_ids, "ale")
        if needs.kind != "pixels":
            raise UserError(
                f"observation.name: the ale backend gives pixels or ram, not a {needs.kind}; use --env.backend envpool"
            )
        if config.resize != "area" and (needs.height, needs.width) != (210, 160):
            raise UserError("env.resize: the ale backend scales by area only")
        self.num_lanes = num_lanes
        self._env = AtariVectorEnv(
            rom_ids[config.game],
            num_lanes,
            num_threads=config.num_threads,
            thread_affinity_offset=affinity_offset(config.num_threads, num_lanes),
            max_num_frames_per_episode=NO_LIMIT,
            repeat_action_probability=config.sticky_action_probability,
            full_action_space=config.full_action_space,
            img_height=needs.height,
            img_width=needs.width,
            grayscale=needs.color == "gray",
            stack_num=needs.stack,
            frameskip=config.frame_skip,
            maxpool=config.maxpool,
            noop_max=config.noop_max,
            use_fire_reset=config.fire_reset,
            reward_clipping=False,
            episodic_life=False,
        )
        self._actions = ActionTable(offered_actions(config), config.actions, num_lanes)
        self.spec = EnvSpec(
            num_actions=len(self._actions),
            observation_shape=self._env.single_observation_space.shape,
            observation_dtype=np.dtype(np.uint8),
            axes=(0, 1, 2) if needs.color == "gray" else (0, 3, 1, 2),
            frame_skip=config.frame_skip,
            action_names=self._actions.names,
            remark=_remark(config, needs),
        )
        self._limit = config.max_episode_agent_steps
        self._lives = np.zeros(num_lanes, np.int32)
        self._ended = np.ones(num_lanes, bool)
        self._cut = np.zeros(num_lanes, bool)  # lanes whose episode the limit ended; ALE does not restart these itself
        self._age = np.zeros(num_lanes, int)  # agent steps since the lane's episode began
        self._first: TimeStep | None = None

    def reset(self, seeds: np.ndarray) -> None:
        check_seeds(seeds, self.num_lanes)
        observation, info = self._env.reset(seed=np.asarray(seeds, np.int64))
        no_reward, no = np.zeros(self.num_lanes, np.float32), np.zeros(self.num_lanes, bool)
        self._ended[:] = False
        self._cut = np.zeros(self.num_lanes, bool)
        self._age[:] = 0
        self._lives = info["lives"]
        self._first = TimeStep(_fill_stack(observation, self._age), no_reward, no, no, no, acted=no)

    def send(self, actions: np.ndarray) -> None:
        sent = self._actions.translate(actions)
        sent[self._cut] = 0  # the action of a lane that was cut is ignored
        self._env.send(sent)

    def recv(self) -> TimeStep:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        observation, reward, terminated, _, info = self._env.recv()
        if self._cut.any():
            no_seeds = np.full(np.count_nonzero(self._cut), -1)  # -1 instead of a seed: the random numbers continue
            observation, info = self._env.reset(seed=no_seeds, options={"reset_mask": self._cut})
        acted = ~self._ended
        self._age = np.where(acted, self._age + 1, 0)
        terminated = terminated & acted
        self._cut = acted & ~terminated & (self._age >= self._limit)
        self._ended = terminated | self._cut
        life_lost = (info["lives"] < self._lives) & acted & ~self._ended
        self._lives = info["lives"]
        return TimeStep(
            observation=_fill_stack(observation, self._age),
            reward=np.where(acted, reward, 0).astype(np.float32),
            terminated=terminated,
            truncated=self._cut,
            life_lost=life_lost,
            acted=acted,
        )

    def close(self) -> None:
        self._env.close()


def _remark(config: EnvConfig, needs: EmulatorNeeds) -> str:
    rows = cartridge(config.game).picture_rows
    if rows <= SHORT_PICTURE_ROWS:
        return ""
    return f"{config.game}'s picture has {rows} rows, which ALE squeezes into {needs.height}"


def _fill_stack(observation: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Fills the part of the frame stack before an episode's begin with its first frame; ALE leaves it black.

    Args:
      observation: ``[N, stack, ...]``.
      age: agent steps since the begin of each lane's episode, ``int[N]``.
    """
    stack = observation.shape[1]
    young = np.flatnonzero(age < stack - 1)
    if not young.size:
        return observation
    filled = observation.copy()
    frames = np.maximum(np.arange(stack), stack - 1 - age[young, None])
    filled[young] = observation[young[:, None], frames]
    return filled
