"""Names of the actions of environments besides Atari, each from its author's public source.

A policy trained on one backend can play the same environment on another one, because its actions have the same names.
"""

import re

from jaxpg.envs.actions import numbered

NAMES: dict[str, tuple[str, ...]] = {
    # Gymnasium's documentation, https://gymnasium.farama.org/environments, "Action Space" of each environment
    "classic_control/CartPole": ("LEFT", "RIGHT"),
    "classic_control/MountainCar": ("LEFT", "NOOP", "RIGHT"),
    "classic_control/Acrobot": ("NEGATIVE_TORQUE", "NOOP", "POSITIVE_TORQUE"),
    "box2d/LunarLander": ("NOOP", "LEFT_ENGINE", "MAIN_ENGINE", "RIGHT_ENGINE"),
    "toy_text/FrozenLake": ("LEFT", "DOWN", "RIGHT", "UP"),
    "toy_text/CliffWalking": ("UP", "RIGHT", "DOWN", "LEFT"),
    "toy_text/Taxi": ("SOUTH", "NORTH", "EAST", "WEST", "PICKUP", "DROPOFF"),
    "toy_text/Blackjack": ("STICK", "HIT"),
    # DeepMind's bsuite, bsuite/environments/catch.py
    "toy_text/Catch": ("LEFT", "STAY", "RIGHT"),
    # MiniGrid, minigrid/core/actions.py; with dynamic obstacles only the first three
    "minigrid/": ("LEFT", "RIGHT", "FORWARD", "PICKUP", "DROP", "TOGGLE", "DONE"),
    # highway-env, highway_env/envs/common/action.py, DiscreteMetaAction; a crossing has no lanes to change
    "highway/Intersection": ("SLOWER", "IDLE", "FASTER"),
    "highway/": ("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER"),
    # Procgen, procgen/env.py, get_combos
    "procgen/": (
        *("DOWNLEFT", "LEFT", "UPLEFT", "DOWN", "NOOP", "UP", "DOWNRIGHT", "RIGHT", "UPRIGHT"),
        *("D", "A", "W", "S", "Q", "E"),
    ),
    # Google Research Football, gfootball/doc/observation.md, "Default action set"
    "gfootball/": (
        *("IDLE", "LEFT", "TOP_LEFT", "TOP", "TOP_RIGHT", "RIGHT", "BOTTOM_RIGHT", "BOTTOM", "BOTTOM_LEFT"),
        *("LONG_PASS", "HIGH_PASS", "SHORT_PASS", "SHOT", "SPRINT", "RELEASE_DIRECTION", "RELEASE_SPRINT"),
        *("SLIDING", "DRIBBLE", "RELEASE_DRIBBLE"),
    ),
}
"""Action names by suite and the beginning of the environment's name; the first that fits is meant."""


def action_names_of(package: str, game: str, num_actions: int) -> tuple[str, ...]:
    """Names of an environment's actions, or their numbers where no public source names them.

    >>> action_names_of("envpool.box2d", "LunarLander-v3", 4)
    ('NOOP', 'LEFT_ENGINE', 'MAIN_ENGINE', 'RIGHT_ENGINE')
    >>> action_names_of("envpool.toy_text", "NChain-v0", 2)
    ('0', '1')
    """
    name = f"{package.removeprefix('envpool.')}/{game.rpartition('/')[2]}"
    plain = re.sub(r"[-_]", "", name.casefold())
    for beginning, names in NAMES.items():
        fits = plain.startswith(re.sub(r"[-_]", "", beginning.casefold()))
        if fits and (len(names) == num_actions or ("dynamicobstacles" in plain and num_actions == 3)):
            return names[:num_actions]
    return numbered(num_actions)
