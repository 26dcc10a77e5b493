"""What a user chooses about the emulators. Each Atari default cites Machado et al. (2018) or its source."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from jaxpg.core.validation import STRICT, Fraction, PositiveFloat, PositiveInt

ActionName = Annotated[str, Field(max_length=32)]


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """The game and how it is emulated."""

    __pydantic_config__ = STRICT

    game: str = "Pong"
    """Atari game in CamelCase (Pong, MsPacman, ...), or CartPole-v1, Acrobot-v1, MountainCar-v0 on EnvPool."""
    backend: str = "envpool"
    """Who emulates: envpool, ale (ALE's own vector environment), or probe (tiny known problems)."""
    num_lanes: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Emulators stepped together (N)."""
    num_pools: Annotated[int, Field(ge=0, le=1024)] = 0
    """Groups of lanes in flight at once. 0 means for training 1 on CPU and 2 on an accelerator, to overlap, and for
    playing a number of games up to 8, which come to rest as the last games end."""
    num_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Emulator threads; 0 means one for each core."""
    timeout_seconds: PositiveFloat = 120.0
    """Seconds without an answer from the emulators, besides one for each lane, after which the run ends."""
    frame_skip: Annotated[int, Field(ge=1, le=64)] = 4
    """Emulator frames per agent step (Mnih et al. 2015, Methods)."""
    sticky_action_probability: Fraction = 0.0
    """Chance that the emulator repeats the last action (Machado et al. 2018, section 5.3 advises 0.25)."""
    noop_max: Annotated[int, Field(ge=0, le=10_000)] = 30
    """Most no-ops played at the start of a game (Mnih et al. 2015, Methods)."""
    fire_reset: bool = True
    """Whether FIRE is pressed at the start of games that wait for it."""
    maxpool: bool = True
    """Whether a frame is the maximum of the last two, against flicker (EnvPool always pools)."""
    resize: Literal["area", "bilinear"] = "area"
    """How EnvPool scales frames (ALE always uses area)."""
    full_action_space: bool = False
    """Whether all 18 actions are offered (Machado et al. 2018, section 5.4) or the game's minimal set."""
    actions: Annotated[tuple[int | ActionName, ...], Field(max_length=18)] = ()
    """Actions that the policy may choose, in this order, by name (NOOP, FIRE, UP, RIGHT, LEFT, DOWN, UPRIGHT, ...,
    DOWNLEFTFIRE) or by their number among those that are offered; empty for all."""
    max_episode_agent_steps: PositiveInt = 27_000
    """Agent steps until a game is truncated (30 minutes at 60 frames/s and frame skip 4); no-ops at its start are not
    counted."""
