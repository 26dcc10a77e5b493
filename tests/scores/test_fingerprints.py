"""Which games are the same: on emulators whose games are written out here, and on real ones."""

import numpy as np
import pytest

from jaxpg.core.types import EmulatorNeeds, Episodes, TimeStep
from jaxpg.envs import make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.scores.fingerprints import Fingerprinted, Game, games_of

STEPS = 3


class Scripted:
    """One lane, whose games last three agent steps; all but the first number of each is a reward."""

    num_lanes, spec = 1, None

    def __init__(self, *games: tuple[float, ...], cuts: bool = False):
        self._rows = [(number, float(reward)) for game in games for number, reward in enumerate(game)]
        self._cuts = cuts

    def reset(self, seeds: np.ndarray) -> None:
        self._next = iter(self._rows)

    def send(self, actions: np.ndarray) -> None:
        pass

    def recv(self) -> TimeStep:
        number, value = next(self._next)
        acted, ended = np.array([number > 0]), np.array([number == STEPS])
        no = np.zeros(1, bool)
        reward = np.float32([value if number else 0])
        terminated, truncated = (no, ended) if self._cuts else (ended, no)
        return TimeStep(np.float32([[value]]), reward, terminated, truncated, no, acted)

    def close(self) -> None:
        pass


def _notes(*games: tuple[float, ...], actions: tuple[int, ...] = (0,) * STEPS, cuts: bool = False) -> list[Game]:
    pool = Fingerprinted(Scripted(*games, cuts=cuts))
    pool.reset(np.zeros(1, int))
    for _ in games:
        pool.recv()
        for action in actions:
            pool.send(np.array([action]))
            pool.recv()
        pool.send(np.array([9]))  # is ignored
    return pool.games[0]


def test_only_equal_games_are_the_same() -> None:
    game = (7.0, 0.0, 1.0, 0.0)
    first, again = _notes(game, game)
    assert first == again == Game(first.fingerprint, cut=False)
    others = [_notes(other)[0] for other in ((6.0, 0.0, 1.0, 0.0), (7.0, 1.0, 0.0, 0.0), (7.0, 0.0, 1.0, 0.5))]
    others.append(_notes(game, actions=(0, 1, 0))[0])
    others.append(_notes(game, actions=(1, 0, 0))[0])
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert _notes(game, cuts=True)[0] == Game(first.fingerprint, cut=True)


def test_notes_are_given_in_the_order_of_the_games() -> None:
    pools = [Fingerprinted(Scripted()), Fingerprinted(Scripted())]
    for i, pool in enumerate(pools):
        pool.games = [[Game(10 * i + j, cut=False) for j in range(3)]]
    lanes = np.array([1, 0, 0, 1])
    episodes = Episodes(*(np.zeros(4),) * 5)._replace(lane=lanes)
    assert [note.fingerprint for note in games_of(episodes, pools)] == [10, 0, 1, 11]


@pytest.mark.parametrize(("backend", "kind"), [("envpool", "ram"), ("ale", "ram"), ("ale", "pixels")])
def test_the_no_ops_leave_a_game_all_its_agent_steps(backend: str, kind: str) -> None:
    """Five agent steps are 20 frames, fewer than there may be no-ops before them."""
    config = EnvConfig(backend=backend, game="Pong", num_lanes=4, max_episode_agent_steps=5, noop_max=30)
    needs = EmulatorNeeds(kind=kind, height=21, width=16) if kind == "pixels" else EmulatorNeeds(kind=kind)
    pool = Fingerprinted(make_env(config, needs, 4))
    pool.reset(np.arange(4) + 7)
    acted = [pool.recv().acted]
    for _ in range(3 * 6 - 1):
        pool.send(np.zeros(4, int))
        acted.append(pool.recv().acted)
    pool.close()
    assert np.array(acted).T.tolist() == [([False] + [True] * 5) * 3] * 4
    assert [[note.cut for note in lane] for lane in pool.games] == [[True] * 3] * 4
