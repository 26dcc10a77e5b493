"""The games of a run: begun anew with seeds of their own in each segment, played again where it was interrupted."""

import math
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.core.types import Population
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.fleet import side_by_side
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import IDLE, CandidateQueue, FixedPopulation, Players, QueueSnapshot, beginning, joined
from jaxpg.kernel.rollout import NOT_SENT
from jaxpg.machine.memory_estimate import Part, check_memory
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoint_metadata import Games, games_depend_on, queue_from_json, queue_to_json
from jaxpg.run.counters import Progress

SHORTEST_AGENT_STEPS = 60 * 4_000
"""Agent steps over all lanes that are always few enough to be played again: a minute's, at a modest speed."""
SHARE_OF_RUN = 0.1
"""What may be played again of a run that has lasted so long that this is more."""
LEAST_GAMES, LEAST_GAMES_OF_ROUNDS = 4, 32
"""Games of the mean length that fit into a segment, because the unfinished ones are dropped at its end. A learner that
asks for games in rounds has to play those anew, where another has learned from what was played of them.
"""


def segment_agent_steps(config: Config, progress: Progress, *, has_rounds: bool) -> int:
    """Agent steps in each lane after which a segment ends: the user's number, or one that a clock has no part in.

    Args:
      config: of the run.
      progress: how far it is, and how long games last.
      has_rounds: whether the learner asks for games in rounds.
    """
    if config.checkpoint.segment_agent_steps:
        return config.checkpoint.segment_agent_steps
    least_games = LEAST_GAMES_OF_ROUNDS if has_rounds else LEAST_GAMES
    of_all_lanes = max(SHORTEST_AGENT_STEPS, SHARE_OF_RUN * progress.agent_steps)
    return math.ceil(max(of_all_lanes / config.env.num_lanes, least_games * (progress.length_mean_100 or 0)))


class Segments:
    """Who plays in this process's lanes, from which seeds, and what a checkpoint keeps of the unfinished games.

    Args:
      config: of the run.
      experiment: its pieces.
      team: who shares the lanes.
    """

    def __init__(self, config: Config, experiment: Experiment, team: Team):
        self._config, self._learner, self._fleet, self._team = config, experiment.learner, experiment.fleet, team
        self._num_actions = experiment.fleet.rollouts[0].pools[0].spec.num_actions
        self._lane_groups = experiment.lane_groups
        first = team.process * self._fleet.num_lanes
        self._own_lanes = slice(first, first + self._fleet.num_lanes)
        self._depends_on = games_depend_on(
            config.env, config.run.seed, experiment.lane_groups if experiment.learner.episodes_to_play else 0
        )
        self._states: list[Any] = []  # of the learner, one on each device
        self._queues: list[CandidateQueue] = []  # likewise; none where there is one candidate
        self._snapshot: QueueSnapshot | None = None  # of this process's queues after the newest iteration

    def begin(self, state: Any, segment: int) -> None:
        """Starts new games in all lanes; a round of search or evolution begins or goes on."""
        self._fleet.reset(self._seeds(segment))
        if self._learner.episodes_to_play:
            games = self._learner.episodes_to_play(state)
            self._set_queues(state, beginning(games, self._config.env.num_lanes, self._lane_groups))

    def can_bring_back(self, games: Games) -> bool:
        """Whether these are games of the same emulators."""
        return games.depend_on == self._depends_on

    def bring_back(self, state: Any, progress: Progress, games: Games, folder: Path) -> Iterator[int]:
        """Plays the unfinished games again; yields how many agent steps were played since it last did.

        Raises:
          UserError: they do not fit the run, as in a stranger's checkpoint in ``folder``.
        """
        actions = self._checked_actions(state, progress, games, folder)
        yield from self._fleet.replay(self._seeds(progress.segment), actions[:, self._own_lanes])
        if games.queue:
            self._set_queues(state, games.queue)

    def players(self, state: Any) -> list[Players]:
        """Who plays on each device of this process."""
        if self._queues:
            self._states = [jax.device_put(state, device) for device in self._team.devices]
            return list(self._queues)
        population = self._learner.ask(state, jnp.zeros(1, jnp.int32))
        lanes = self._fleet.num_lanes // len(self._team.devices)
        return [FixedPopulation(jax.device_put(population, device), lanes) for device in self._team.devices]

    def note(self) -> None:
        """An iteration is over: what a save keeps until the next one is."""
        self._snapshot = joined([queue.snapshot() for queue in self._queues]) if self._queues else None

    @property
    def has_games(self) -> bool:
        """Whether games are left in this process; always where the learner does not ask for certain games."""
        return self._learner.episodes_to_play is None or not all(queue.finished for queue in self._queues)

    @property
    def agent_steps(self) -> int:
        """Of this process's lanes since the segment began."""
        return self._fleet.agent_steps_since_reset

    @property
    def may_end(self) -> bool:
        """Whether the games with which the segment began are over in this process's lanes, however short a segment is:
        else games that last longer would never end.
        """
        idle = np.concatenate([queue.playing for queue in self._queues]) == IDLE if self._queues else False
        longest_game_is_over = self.agent_steps > self._config.env.max_episode_agent_steps
        return longest_game_is_over or bool((self._fleet.first_episodes_are_over | idle).all())

    def end(self) -> None:
        """Drops the unfinished games."""
        self._fleet.drop_episodes()
        self._queues, self._snapshot = [], None

    def unfinished(self) -> Games | None:
        """What a checkpoint needs to bring the games of all processes back; None between two segments."""
        own = {
            "actions": zlib.compress(self._fleet.actions.tobytes(), 1),
            "queue": queue_to_json(self._snapshot) if self._snapshot else None,
        }
        everyones = self._team.gather(own)
        plain = [np.frombuffer(zlib.decompress(one["actions"]), np.uint8) for one in everyones]
        if not any(actions.size for actions in plain):
            return None
        rows = [actions.reshape(-1, self._fleet.num_lanes) for actions in plain]
        queue = joined([queue_from_json(one["queue"]) for one in everyones]) if self._snapshot else None
        return Games.of(self._depends_on, side_by_side(rows), queue)

    def _seeds(self, segment: int) -> np.ndarray:
        return lane_seeds(self._config.run.seed, segment, self._config.env.num_lanes)[self._own_lanes]

    def _set_queues(self, state: Any, snapshot: QueueSnapshot) -> None:
        devices, first = self._team.devices, self._team.first_device
        parts = snapshot.split(self._team.num_devices)[first : first + len(devices)]
        self._states = [jax.device_put(state, device) for device in devices]
        self._queues = []
        for number, (device, part) in enumerate(zip(devices, parts, strict=True)):
            with jax.default_device(device):
                self._queues.append(CandidateQueue(part, partial(self._ask, number)))
        self.note()

    def _ask(self, device: int, ids: jax.Array) -> Population:
        return self._learner.ask(self._states[device], ids)

    def _checked_actions(self, state: Any, progress: Progress, games: Games, folder: Path) -> np.ndarray:
        num_actions = games.agent_steps * games.lanes
        what = f"{num_actions} agent steps of unfinished games"
        check_memory([Part("checkpoint.segment_agent_steps", what, num_actions)])
        try:
            if num_actions > progress.agent_steps:
                raise ValueError("its games are longer than the run")
            actions = games.unpacked()
            if not ((actions < self._num_actions) | (actions == NOT_SENT)).all():
                raise ValueError("its games have actions that this game has not")
            wanted, queue = (
                self._learner.episodes_to_play(state) if self._learner.episodes_to_play else None,
                games.queue,
            )
            if (wanted is None) != (queue is None) or (wanted is not None and queue and not queue.is_of(wanted)):
                raise ValueError("its games are others than the learner asks for")
            if queue and (len(queue.waiting) != self._lane_groups or len(queue.playing) != actions.shape[1]):
                raise ValueError("its games are of other lanes")
        except ValueError as error:
            raise UserError(f"{folder}: the checkpoint cannot be played on: {error}") from error
        return actions
