"""Names of Atari games and actions. EnvPool and ALE have the same ROM ids and the same action numbers."""

import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jaxpg.core.errors import UserError
from jaxpg.envs.config import EnvConfig


def game_name(rom_id: str) -> str:
    """The usual name of the game with this ROM id.

    >>> game_name("ms_pacman")
    'MsPacman'
    """
    return "".join(part.capitalize() for part in rom_id.split("_"))


@functools.cache  # each pool asks
def rom_ids_by_game() -> dict[str, str]:
    """ALE's ROM ids by game name.

    The result leaves out a few games for two or more players only (Combat, Joust, MazeCraze, Warlords). ALE ships these
    games but cannot play them: it ends the process that asks for one.
    """
    from ale_py import ALEInterface, roms  # imported here, because other backends do not need ALE

    rom_ids = {game_name(rom_id): rom_id for rom_id in roms.get_all_rom_ids()}
    return {game: rom_id for game, rom_id in rom_ids.items() if ALEInterface.isSupportedROM(roms.get_rom_path(rom_id))}


ATARI_SETTINGS = (
    *("frame_skip", "sticky_action_probability", "noop_max", "fire_reset", "maxpool", "resize", "full_action_space"),
)
"""Settings in ``EnvConfig`` that only Atari's emulators have."""


def refuse_atari_settings(config: EnvConfig) -> None:
    """Raises UserError if a setting that only Atari games have differs from its default; it would have no effect."""
    for name in ATARI_SETTINGS:
        if getattr(config, name) != getattr(EnvConfig, name):
            raise UserError(f"env.{name}: only Atari games have this setting, and {config.game} is none; leave it out")


def check_game(game: str, games: Iterable[str], backend: str, others: Sequence[str] = ()) -> None:
    """Raises UserError if a backend has no such game. The sentence suggests a similar name, or says what there is.

    Args:
      game: the name that the user gave.
      games: the Atari games that the backend offers.
      backend: the backend's name.
      others: the backend's other environments.
    """
    atari = list(games)
    if game in atari or game in others:
        return
    if _is_gymnasiums(game):
        raise UserError(f"env.game: {backend} has no {game!r}, but Gymnasium has; add --env.backend gymnasium")
    known = {_plain(name): name for name in (*others, *atari)}
    near = difflib.get_close_matches(_plain(game), known, n=1, cutoff=0.7)
    more = ", and other environments, such as CartPole-v1 and LunarLander-v3" if others else ""
    offer = f"{backend} offers {len(atari)} Atari games, such as Pong and Breakout{more}"
    own = "your own needs --imports FILE and --env.backend gymnasium"
    hint = f"did you mean {known[near[0]]!r}?" if near else f"{offer}; {own}"
    raise UserError(f"env.game: unknown name {game!r}; {hint}")


def _is_gymnasiums(game: str) -> bool:
    """Whether Gymnasium has an environment of this id, perhaps the user's own. ALE's games are not meant."""
    import gymnasium  # imported here, because only an error needs it

    spec = gymnasium.registry.get(game)
    return spec is not None and not str(spec.entry_point).startswith("ale_py")


def _plain(game: str) -> str:
    """A game's name in lower case, without the prefixes and suffixes of other libraries.

    >>> _plain("ALE/Pong-v5"), _plain("PongNoFrameskip-v4")
    ('pong', 'pong')
    """
    return re.sub(r"(NoFrameskip|Deterministic)?(-v\d+)?$", "", game.removeprefix("ALE/")).casefold()


def quiet_console() -> Any:
    """A new ``ale_py.ALEInterface`` without a game. ALE does not print its banner."""
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py.ALEInterface()


SHORT_PICTURE_ROWS = 210
"""Picture rows of most games. A few games have more."""


class Cartridge(NamedTuple):
    """Facts about an Atari game, as ALE reports them."""

    minimal_actions: tuple[str, ...]
    """Names of the actions that have an effect in this game."""
    all_actions: tuple[str, ...]
    picture_rows: int


@functools.cache  # loading takes a fifth of a second
def cartridge(game: str) -> Cartridge:
    """Loads a game in ALE and reads the facts about it."""
    from ale_py import roms

    console = quiet_console()
    console.loadROM(roms.get_rom_path(rom_ids_by_game()[game]))
    minimal, legal = (
        tuple(action.name for action in actions)
        for actions in (console.getMinimalActionSet(), console.getLegalActionSet())
    )
    return Cartridge(minimal, legal, console.getScreenDims()[0])


def offered_actions(config: EnvConfig) -> tuple[str, ...]:
    """Names of the actions that the emulator offers in an Atari game. ``config.actions`` selects from these."""
    game = cartridge(config.game)
    return game.all_actions if config.full_action_space else game.minimal_actions
