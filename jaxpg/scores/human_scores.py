"""Scores of a random player and of a human tester in 57 Atari games.

The games began after up to 30 no-ops and lasted at most 30 minutes. Papers have used these scores since Wang et al.
(2016), table 2; Badia et al. (2020, Agent57), table H.4 list them too.
"""

from collections.abc import Mapping
from typing import Any

FRAMES_LIMIT = 108_000
"""Time limit of a game in frames: 30 minutes at 60 frames a second."""
NOOP_MAX = 30
BACKENDS = ("envpool", "ale")
"""The backends whose games are Atari's. An environment of another backend may have the name of an Atari game."""

RANDOM_AND_HUMAN: dict[str, tuple[float, float]] = {
    "Alien": (227.8, 7127.7),
    "Amidar": (5.8, 1719.5),
    "Assault": (222.4, 742.0),
    "Asterix": (210.0, 8503.3),
    "Asteroids": (719.1, 47388.7),
    "Atlantis": (12850.0, 29028.1),
    "BankHeist": (14.2, 753.1),
    "BattleZone": (2360.0, 37187.5),
    "BeamRider": (363.9, 16926.5),
    "Berzerk": (123.7, 2630.4),
    "Bowling": (23.1, 160.7),
    "Boxing": (0.1, 12.1),
    "Breakout": (1.7, 30.5),
    "Centipede": (2090.9, 12017.0),
    "ChopperCommand": (811.0, 7387.8),
    "CrazyClimber": (10780.5, 35829.4),
    "Defender": (2874.5, 18688.9),
    "DemonAttack": (152.1, 1971.0),
    "DoubleDunk": (-18.6, -16.4),
    "Enduro": (0.0, 860.5),
    "FishingDerby": (-91.7, -38.7),
    "Freeway": (0.0, 29.6),
    "Frostbite": (65.2, 4334.7),
    "Gopher": (257.6, 2412.5),
    "Gravitar": (173.0, 3351.4),
    "Hero": (1027.0, 30826.4),
    "IceHockey": (-11.2, 0.9),
    "Jamesbond": (29.0, 302.8),
    "Kangaroo": (52.0, 3035.0),
    "Krull": (1598.0, 2665.5),
    "KungFuMaster": (258.5, 22736.3),
    "MontezumaRevenge": (0.0, 4753.3),
    "MsPacman": (307.3, 6951.6),
    "NameThisGame": (2292.3, 8049.0),
    "Phoenix": (761.4, 7242.6),
    "Pitfall": (-229.4, 6463.7),
    "Pong": (-20.7, 14.6),
    "PrivateEye": (24.9, 69571.3),
    "Qbert": (163.9, 13455.0),
    "Riverraid": (1338.5, 17118.0),
    "RoadRunner": (11.5, 7845.0),
    "Robotank": (2.2, 11.9),
    "Seaquest": (68.4, 42054.7),
    "Skiing": (-17098.1, -4336.9),
    "Solaris": (1236.3, 12326.7),
    "SpaceInvaders": (148.0, 1668.7),
    "StarGunner": (664.0, 10250.0),
    "Surround": (-10.0, 6.5),
    "Tennis": (-23.8, -8.3),
    "TimePilot": (3568.0, 5229.2),
    "Tutankham": (11.4, 167.6),
    "UpNDown": (533.4, 11693.2),
    "Venture": (0.0, 1187.5),
    "VideoPinball": (16256.9, 17667.9),
    "WizardOfWor": (563.5, 4756.5),
    "YarsRevenge": (3092.9, 54576.9),
    "Zaxxon": (32.5, 9173.3),
}
"""Mean scores of the random player and of the human, by game."""


def human_normalized(score: float, env: Mapping[str, Any]) -> float | None:
    """Computes ``(score - random) / (human - random)`` (Mnih et al. 2015, extended data table 2).

    Returns None where the random player's or the human's score is unknown, or where ``incomparable`` gives a reason
    why the comparison would be meaningless.

    Args:
      score: a mean of unclipped returns.
      env: the settings of the emulators.
    """
    if not has_human_score(env) or incomparable(env):
        return None
    random, human = RANDOM_AND_HUMAN[env["game"]]
    return (score - random) / (human - random)


def incomparable(env: Mapping[str, Any]) -> str | None:
    """Says why scores cannot be compared with the random player's and the human's.

    Returns None where they can be compared, and for games without human scores. Comparable games begin after up to 30
    no-ops, or sticky actions make them differ (Machado et al. 2018). The human played for at most 30 minutes, so games
    which that limit cut are comparable too.

    Args:
      env: the settings of the emulators. A missing setting stands for its default.
    """
    if not has_human_score(env):
        return None
    limit, frame_skip = env.get("max_episode_agent_steps", FRAMES_LIMIT // 4), env.get("frame_skip", 4)
    noop_max, sticky = env.get("noop_max", NOOP_MAX), env.get("sticky_action_probability", 0.0)
    if not all(isinstance(number, int | float) for number in (limit, frame_skip, noop_max, sticky)):
        return "the settings of the emulators cannot be read"
    frames = limit * frame_skip
    if frames != FRAMES_LIMIT:
        return f"the time limit is {frames:,} frames, a human's {FRAMES_LIMIT:,}"
    if noop_max > NOOP_MAX:
        return f"games begin after up to {noop_max} no-ops, a human's after up to {NOOP_MAX}"
    if noop_max == 0 and not sticky:
        return "all games begin alike, without no-ops and sticky actions"
    return None


def has_human_score(env: Mapping[str, Any]) -> bool:
    """Whether the environment is one of the 57 Atari games; ``env`` has the settings of the emulators."""
    names = str(env.get("game")), str(env.get("backend", "envpool"))  # a stranger's may be anything
    return names[0] in RANDOM_AND_HUMAN and names[1] in BACKENDS
