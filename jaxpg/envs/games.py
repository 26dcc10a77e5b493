"""What Atari games and their actions are called: EnvPool and ALE share ROM ids and the numbers of actions."""

import functools
from typing import Any

from jaxpg.envs.config import EnvConfig
from jaxpg.errors import UserError


def game_name(rom_id: str) -> str:
    """A ROM id's usual name.

    >>> game_name("ms_pacman")
    'MsPacman'
    """
    return "".join(part.capitalize() for part in rom_id.split("_"))


@functools.cache  # each pool asks
def rom_ids_by_game() -> dict[str, str]:
    """ALE's ROM ids by the games' names.

    ALE ships a few games for two or more players alone (Combat, Joust, MazeCraze, Warlords), which it cannot play: it
    ends the process that asks for them. They are left out.
    """
    from ale_py import ALEInterface, roms  # here, because a run on another backend does not need ALE

    rom_ids = {game_name(rom_id): rom_id for rom_id in roms.get_all_rom_ids()}
    return {game: rom_id for game, rom_id in rom_ids.items() if ALEInterface.isSupportedROM(roms.get_rom_path(rom_id))}


def most_frames(config: EnvConfig) -> int:
    """Frames until a game is truncated, in the range of ALE's integers."""
    return min(config.max_episode_agent_steps * config.frame_skip, 2**31 - 1)


def quiet_console() -> Any:
    """A new ``ale_py.ALEInterface`` without a game; ALE's banner is not printed."""
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py.ALEInterface()


def action_names(config: EnvConfig) -> list[str]:
    """The names of the A actions, such as ``UP``.

    Raises:
      UserError: the game is not on Atari.
    """
    from ale_py import roms

    rom_ids = rom_ids_by_game()
    if config.game not in rom_ids:
        raise UserError(f"env.game: only Atari games have a picture and named actions, {config.game} has not")
    console = quiet_console()
    console.loadROM(roms.get_rom_path(rom_ids[config.game]))
    actions = console.getLegalActionSet() if config.full_action_space else console.getMinimalActionSet()
    return [actions[i].name for i in config.actions or range(len(actions))]
