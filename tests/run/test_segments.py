"""How long a segment lasts, and that a stranger's unfinished games are bounded."""

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxpg.config import CheckpointConfig, Config, RunConfig
from jaxpg.core.errors import UserError
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import build
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.machine import memory_estimate as sizes
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoint_metadata import UnfinishedEpisodes
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.segments import Segments, segment_agent_steps
from jaxpg.run.training import Training
from tests.helpers import probe_config

THIRTY_TWO = Config(env=EnvConfig(num_lanes=32))


@pytest.mark.parametrize(
    ("learner", "agent_steps", "lengths", "expected"),
    [
        ("reinforce", 0, [], 7_500),  # a minute at 4,000 a second
        ("reinforce", 2_400_000, [], 7_500),
        ("reinforce", 3_200_000, [], 10_000),  # a tenth of the run
        ("reinforce", 0, [1_000, 3_000], 8_000),  # four games
        ("reinforce", 2_400_000, [1_000] * 200, 7_500),
        ("evolution", 0, [1_000, 3_000], 64_000),
        ("random_search", 3_200_000, [10], 10_000),
    ],
)
def test_a_segment_lasts_a_minute_or_a_tenth_of_the_run_or_some_games(learner, agent_steps, lengths, expected):
    progress = RunProgress(agent_steps=agent_steps, wall_seconds=1e9)
    progress.last_lengths.extend(lengths)
    has_rounds, config = learner != "reinforce", replace(THIRTY_TWO, run=RunConfig(learner=learner))
    assert segment_agent_steps(config, progress, has_rounds=has_rounds) == expected
    given = replace(config, checkpoint=CheckpointConfig(segment_agent_steps=123))
    assert segment_agent_steps(given, progress, has_rounds=has_rounds) == 123


def test_the_default_never_exceeds_a_minute_and_a_tenth_of_a_run_by_more_than_games_take():
    """32 lanes and games of Pong, 1.47 million agent steps of which were all played again."""
    progress = RunProgress(agent_steps=1_470_000)
    progress.last_lengths.extend([1_800] * 100)
    assert segment_agent_steps(THIRTY_TWO, progress, has_rounds=False) * 32 <= 240_000


@pytest.mark.parametrize(
    ("agent_steps", "lanes", "sentence"),
    [
        (11, 4, "runs/a: the run cannot go on from its checkpoint: its games are longer than the run"),
        (2**31 - 1, 4, "checkpoint.segment_agent_steps: the run needs about"),
    ],
)
def test_games_of_a_strangers_checkpoint_are_bounded(agent_steps, lanes, sentence, monkeypatch):
    config = probe_config("Count", ReinforceConfig(rollout_agent_steps=8), num_lanes=4)
    experiment = build(config)
    segments = Segments(config, experiment, Team.alone())
    games = replace(UnfinishedEpisodes.of("", np.zeros((10, 4), np.uint8), None), agent_steps=agent_steps, lanes=lanes)
    monkeypatch.setattr(sizes, "usable_memory", lambda: 8 * 10**9)
    with pytest.raises(UserError, match=f"^{sentence}"):
        next(segments.bring_back(None, RunProgress(agent_steps=40), games, Path("runs/a")))
    experiment.fleet.close()


def _are_not(games, *, is_over):
    return False


def test_a_signal_ends_a_replay_at_once_and_the_games_stay_to_be_saved():
    stop, played = SimpleNamespace(signal=None), []

    def bring_back(*arguments):
        for row in range(1000):
            played.append(row)
            if row == 2:
                stop.signal = signal.SIGTERM
            yield 4

    games = UnfinishedEpisodes.of("", np.zeros((1000, 4), np.uint8), None)
    training = SimpleNamespace(
        _to_replay=games,
        _segments=SimpleNamespace(depend_on="", bring_back=bring_back, are_other_games=_are_not),
        _say_replay=lambda games: None,
        config=Config(),
        experiment=SimpleNamespace(fleet=SimpleNamespace(num_lanes=4)),
        state=None,
        progress=RunProgress(),
        folder=Path("runs/a"),
    )
    Training._go_on_with_games(training, stop)
    assert played == [0, 1, 2]
    assert training._to_replay is games
