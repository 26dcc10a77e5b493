"""What Atari games and their actions are called: EnvPool and ALE share ROM ids and the numbers of actions."""

import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jaxpg.core.errors import UserError
from jaxpg.envs.actions import ActionTable
from jaxpg.envs.config import EnvConfig


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


def check_game(game: str, games: Iterable[str], backend: str, classic: Sequence[str] = ()) -> None:
    """Raises UserError where a backend has no such game, with a name that means the same or with what it offers.

    Args:
      game: what the user asked for.
      games: the Atari games that the backend offers.
      backend: its name.
      classic: its other environments.
    """
    atari = list(games)
    if game in atari or game in classic:
        return
    known = {_plain(name): name for name in (*atari, *classic)}
    near = difflib.get_close_matches(_plain(game), known, n=1, cutoff=0.7)
    others = f", and {', '.join(classic)}" if classic else ""
    offer = f"{backend} offers {len(atari)} Atari games, such as Pong and Breakout{others}"
    raise UserError(f"env.game: unknown name {game!r}; " + (f"did you mean {known[near[0]]!r}?" if near else offer))


def _plain(game: str) -> str:
    """A game's name without what other libraries put around it.

    >>> _plain("ALE/Pong-v5"), _plain("PongNoFrameskip-v4")
    ('pong', 'pong')
    """
    return re.sub(r"(NoFrameskip|Deterministic)?(-v\d+)?$", "", game.removeprefix("ALE/")).casefold()


def quiet_console() -> Any:
    """A new ``ale_py.ALEInterface`` without a game; ALE's banner is not printed."""
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py.ALEInterface()


SHORT_PICTURE_ROWS = 210
"""Rows of most games' pictures; a few have more."""


class Cartridge(NamedTuple):
    """What ALE says of a game that it has loaded."""

    minimal_actions: tuple[str, ...]
    """Names of the actions that change anything in this game."""
    all_actions: tuple[str, ...]
    picture_rows: int


@functools.cache  # loading takes a fifth of a second
def cartridge(game: str) -> Cartridge:
    """Facts about an Atari game that ALE knows."""
    from ale_py import roms

    console = quiet_console()
    console.loadROM(roms.get_rom_path(rom_ids_by_game()[game]))
    minimal, legal = (
        tuple(action.name for action in actions)
        for actions in (console.getMinimalActionSet(), console.getLegalActionSet())
    )
    return Cartridge(minimal, legal, console.getScreenDims()[0])


def offered_actions(config: EnvConfig) -> tuple[str, ...]:
    """The names of the actions that the emulator offers in an Atari game; ``config.actions`` chooses among them."""
    game = cartridge(config.game)
    return game.all_actions if config.full_action_space else game.minimal_actions


def action_names(config: EnvConfig) -> list[str]:
    """The names of the A actions, such as ``UP``.

    Raises:
      UserError: the game is not on Atari.
    """
    if config.game not in rom_ids_by_game():
        raise UserError(f"env.game: only Atari games have a picture and named actions, {config.game} has not")
    return list(ActionTable(offered_actions(config), config.actions, 1).names)
