"""Settings of the emulators. Each Atari default cites its source, such as Machado et al. (2018)."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from jaxpg.core.validation import STRICT, Fraction, Name, PositiveFloat, PositiveInt


def _all_finite(options: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(options, allow_nan=False)
    except ValueError as error:
        raise ValueError("numbers must be finite") from error
    return options


Options = Annotated[dict[str, Any], AfterValidator(_all_finite)]
ActionName = Annotated[str, Field(max_length=32)]


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """The game and how it is emulated."""

    __pydantic_config__ = STRICT

    game: Name = "Pong"
    """Atari game in CamelCase (Pong, MsPacman, ...). EnvPool also has CartPole-v1, LunarLander-v3, Procgen, MiniGrid
    and others by their ids (docs/guides/envpool-suites.md)."""
    backend: Name = "envpool"
    """Library that makes the environments: envpool, ale (ALE's own vector environment), gymnasium (any environment that
    Gymnasium makes, your own among them), gymnax (written in JAX), probe (tiny problems with a known optimum), or the
    name under which you registered your own."""
    options: Options = field(default_factory=dict)
    """Keyword arguments of the environment (gymnasium only), such as {map_name: 8x8}; on the command line as JSON:
    '{"map_name": "8x8"}'."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Processes that share the lanes (gymnasium only), for environments that take long; 0 plays them all in the
    trainer's process."""
    num_lanes: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Number of emulators that are stepped together (N); in a population (run.population) those of each member."""
    num_pools: Annotated[int, Field(ge=0, le=1024)] = 0
    """Number of pools. A pool is a group of lanes that one emulator object steps; pools work at the same time. 0 means:
    for training, 1 on CPU and 2 on an accelerator, so that emulation and acting overlap; for playing a number of games,
    up to 8, because a pool stops when its last game ends."""
    num_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Emulator threads; 0 means one for each core."""
    timeout_seconds: PositiveFloat = 120.0
    """Seconds without an answer from the emulators after which the run ends. One second is added for each lane."""
    frame_skip: Annotated[int, Field(ge=1, le=64)] = 4
    """Emulator frames per agent step (Mnih et al. 2015, Methods)."""
    sticky_action_probability: Fraction = 0.0
    """Probability that the emulator repeats the last action (Machado et al. 2018, section 5.3, recommend 0.25)."""
    noop_max: Annotated[int, Field(ge=0, le=10_000)] = 30
    """Maximum number of no-ops at the start of a game (Mnih et al. 2015, Methods)."""
    fire_reset: bool = True
    """Whether FIRE is pressed at the start of games that wait for FIRE."""
    maxpool: bool = True
    """Whether a frame is the maximum of the last two frames, which removes flicker (EnvPool always pools)."""
    resize: Literal["area", "bilinear"] = "area"
    """How EnvPool scales frames, area or bilinear (ALE always uses area)."""
    full_action_space: bool = False
    """Whether the game offers all 18 actions (Machado et al. 2018, section 5.4) or only its minimal set."""
    actions: Annotated[tuple[int | ActionName, ...], Field(max_length=18)] = ()
    """Actions that the policy may choose, in this order. An action is a name (NOOP, FIRE, UP, RIGHT, LEFT, DOWN,
    UPRIGHT, ..., DOWNLEFTFIRE) or a number among the offered actions. Empty means all offered actions."""
    max_episode_agent_steps: PositiveInt = 27_000
    """Agent steps after which a game is truncated (30 minutes at 60 frames/s and frame skip 4). No-ops at its start
    do not count. Where an environment besides Atari has a shorter limit of its own, that one holds."""
