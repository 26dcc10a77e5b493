"""Backend for the console's memory (RAM). It follows Gymnasium exactly and steps ALE's own interface lane by lane."""

from typing import Any

import numpy as np

from jaxpg.core.types import EnvSpec, TimeStep
from jaxpg.envs.actions import ActionTable
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import check_game, offered_actions, quiet_console, rom_ids_by_game
from jaxpg.envs.seeds import check_seeds

MEMORY_BYTES = 128


class AleRam:
    """``N`` lanes of one Atari game whose observation is the console's memory, ``u8[N, 128]``.

    ALE's vector environment cannot provide the memory. With frame skip 4, sticky actions 0.25, no no-ops and no FIRE,
    the bytes, rewards and ends of every agent step equal ``gymnasium.make("ALE/<Game>-v5", obs_type="ram")``. ALE holds
    Python's lock while it emulates, so all lanes share one core. No frame is drawn, which makes up for most of the loss
    (docs/lab/linear-mspacman.md).

    Raises:
      UserError: the game is unknown, or the action subset is wrong.
    """

    def __init__(self, config: EnvConfig, num_lanes: int):
        import ale_py  # imported here, because other backends do not need ALE
        from ale_py import roms

        rom_ids = rom_ids_by_game()
        check_game(config.game, rom_ids, "ale")
        self.num_lanes = num_lanes
        self._config = config
        self._rom = roms.get_rom_path(rom_ids[config.game])
        self._lanes: list[Any] = [quiet_console() for _ in range(num_lanes)]
        for lane in self._lanes:
            lane.setFloat("repeat_action_probability", config.sticky_action_probability)
            lane.setInt("max_num_frames_per_episode", 0)  # no limit; ALE's limit would count the no-ops
        self._lanes[0].loadROM(self._rom)
        legal, minimal = self._lanes[0].getLegalActionSet(), self._lanes[0].getMinimalActionSet()
        self._emulator_actions = legal if config.full_action_space else minimal
        self._noop, self._fire = ale_py.Action.NOOP, ale_py.Action.FIRE
        self._presses_fire = config.fire_reset and self._fire in minimal
        self._actions = ActionTable(offered_actions(config), config.actions, num_lanes)
        self.spec = EnvSpec(
            num_actions=len(self._actions),
            observation_shape=(MEMORY_BYTES,),
            observation_dtype=np.dtype(np.uint8),
            axes=(0,),
            frame_skip=config.frame_skip,
            action_names=self._actions.names,
        )
        self._noops: list[np.random.Generator] = []
        self._lives = np.zeros(num_lanes, np.int32)
        self._ended = np.ones(num_lanes, bool)
        self._age = np.zeros(num_lanes, int)  # agent steps since the lane's episode began
        self._sent: np.ndarray | None = None

    def reset(self, seeds: np.ndarray) -> None:
        check_seeds(seeds, self.num_lanes)
        self._noops = [np.random.default_rng(int(seed)) for seed in seeds]
        for lane, seed in zip(self._lanes, seeds, strict=True):
            lane.setInt("random_seed", int(seed))
            lane.loadROM(self._rom)  # loading the game restarts the emulator's random numbers
        self._ended[:] = True
        self._sent = np.zeros(self.num_lanes, np.int32)

    def send(self, actions: np.ndarray) -> None:
        self._sent = self._actions.translate(actions)

    def recv(self) -> TimeStep:
        assert self._sent is not None, "recv without reset or send"
        acted = ~self._ended
        reward = np.zeros(self.num_lanes, np.float32)
        memory = np.empty((self.num_lanes, MEMORY_BYTES), np.uint8)
        terminated, truncated, life_lost = np.zeros((3, self.num_lanes), bool)
        for i, lane in enumerate(self._lanes):
            if acted[i]:
                action = self._emulator_actions[self._sent[i]]
                reward[i] = sum(lane.act(action) for _ in range(self._config.frame_skip))
            else:
                self._start_game(i)
            self._age[i] = self._age[i] + 1 if acted[i] else 0
            lane.getRAM(memory[i])
            terminated[i] = acted[i] and lane.game_over(with_truncation=False)
            truncated[i] = self._age[i] >= self._config.max_episode_agent_steps and not terminated[i]
            lives = lane.lives()
            life_lost[i] = acted[i] and lives < self._lives[i] and not (terminated[i] or truncated[i])
            self._lives[i] = lives
        self._sent = None
        self._ended = terminated | truncated
        return TimeStep(memory, reward, terminated, truncated, life_lost, acted)

    def close(self) -> None:
        self._lanes.clear()

    def _start_game(self, i: int) -> None:
        self._lanes[i].reset_game()
        for _ in range(self._noops[i].integers(self._config.noop_max, endpoint=True)):
            self._lanes[i].act(self._noop)
        if self._presses_fire:
            self._lanes[i].act(self._fire)
        if self._lanes[i].game_over():  # the episode ended during the no-ops
            self._lanes[i].reset_game()
