"""The episodes of a run, segment by segment.

Each segment restarts the emulators with new seeds. When a run is resumed, it plays the actions of its interrupted
segment again, which brings the emulators back into the middle of their episodes.
"""

import math
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.core.types import Population
from jaxpg.envs.seeds import lane_seeds
from jaxpg.kernel.fleet import side_by_side
from jaxpg.kernel.jax_rollout import SavedLanes
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import IDLE, CandidateQueue, FixedPopulation, Players, QueueSnapshot, beginning, joined
from jaxpg.kernel.rollout import NOT_SENT
from jaxpg.machine.memory_estimate import Part, check_memory
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoint_metadata import UnfinishedEpisodes, episodes_depend_on, queue_from_json, queue_to_json
from jaxpg.run.run_progress import RunProgress

SHORTEST_AGENT_STEPS = 60 * 4_000
"""Agent steps of all lanes in the shortest segment. Playing them again takes about a minute at a modest speed."""
SHARE_OF_RUN = 0.1
"""Share of a run's agent steps that its next segment may take, where this is more than the shortest segment."""
LEAST_GAMES, LEAST_GAMES_OF_ROUNDS = 4, 32
"""How many episodes of mean length fit into a lane's segment at least, without and with rounds.

The end of a segment drops the unfinished episodes. A learner with rounds must play the dropped episodes anew, so its
segments are longer. A learner without rounds has already learned from their agent steps.
"""


def segment_agent_steps(config: Config, progress: RunProgress, *, has_rounds: bool) -> int:
    """Agent steps of each lane after which a segment ends.

    The configuration may set the number. Otherwise the number follows from the run's progress. It never depends on a
    clock, so that a seed always plays the same episodes.

    Args:
      config: the configuration of the run.
      progress: how far the run is, and how long its episodes last.
      has_rounds: whether the learner asks for episodes in rounds.
    """
    if config.checkpoint.segment_agent_steps:
        return config.checkpoint.segment_agent_steps
    least_games = LEAST_GAMES_OF_ROUNDS if has_rounds else LEAST_GAMES
    of_all_lanes = max(SHORTEST_AGENT_STEPS, SHARE_OF_RUN * progress.agent_steps)
    return math.ceil(max(of_all_lanes / config.env.num_lanes, least_games * (progress.length_mean_100 or 0)))


class Segments:
    """Starts, continues and ends the episodes in this process's lanes, and says who plays in each lane.

    Args:
      config: the configuration of the run.
      experiment: the learner and the emulators of the run.
      team: the devices and processes that share the lanes.
    """

    def __init__(self, config: Config, experiment: Experiment, team: Team):
        self._config, self._learner, self._fleet, self._team = config, experiment.learner, experiment.fleet, team
        self._num_actions = experiment.fleet.rollouts[0].pools[0].spec.num_actions
        self._lane_groups = experiment.lane_groups
        self._seeds_of_members = [member.seed for member in experiment.members] or [config.run.seed]
        self._num_lanes = len(self._seeds_of_members) * config.env.num_lanes
        first = team.process * self._fleet.num_lanes
        self._own_lanes = slice(first, first + self._fleet.num_lanes)
        self.depend_on = episodes_depend_on(
            config.env,
            self._seeds_of_members if experiment.members else config.run.seed,
            experiment.lane_groups if experiment.learner.episodes_to_play else 0,
        )
        """What episodes depend on besides the actions. Unfinished ones can go on where this is the same."""
        self._saves_lanes = experiment.fleet.is_in_jax and not experiment.learner.episodes_to_play
        self._has_begun = False
        self._states: list[Any] = []  # the learner's state on each device
        self._queues: list[CandidateQueue] = []  # the queue of each device; empty where the learner has no candidates
        self._snapshot: QueueSnapshot | None = None  # this process's queues after the newest iteration
        self._checksums = b""  # of this process's lanes in which somebody played then

    def begin(self, state: Any, segment: int) -> None:
        """Starts new episodes in all lanes; a round of a search or of evolution begins or goes on."""
        self._fleet.reset(self._seeds(segment))
        self._has_begun = True
        if self._learner.episodes_to_play:
            games = self._learner.episodes_to_play(state)
            self._set_queues(state, beginning(games, self._config.env.num_lanes, self._lane_groups))

    def bring_back(self, state: Any, progress: RunProgress, games: UnfinishedEpisodes, folder: Path) -> Iterator[int]:
        """Plays the unfinished episodes again up to where they were.

        Yields:
          How many agent steps were played since the last yield.

        Raises:
          UserError: the episodes do not fit the run. The sentence names ``folder``.
        """
        actions = self._checked_actions(state, progress, games, folder)
        yield from self._fleet.replay(self._seeds(progress.segment), actions[:, self._own_lanes])
        if games.queue:
            self._set_queues(state, games.queue)
        self.note()

    def are_other_games(self, games: UnfinishedEpisodes, *, is_over: bool) -> bool:
        """Whether the episodes that were played again differ from ``games``; False if they are not known to differ.

        Every process calls this method after ``bring_back``.

        Args:
          games: the episodes that were to be brought back.
          is_over: whether this process has played them again up to where they were.
        """
        everyones = self._team.gather({"is_over": is_over, "checksums": self._checksums})
        checksum = zlib.crc32(b"".join(one["checksums"] for one in everyones))
        return all(one["is_over"] for one in everyones) and games.checksum not in (None, checksum)

    def saved_lanes(self) -> SavedLanes | None:
        """Where the lanes of all processes are, sharded over all devices; None where a checkpoint stores actions.

        Lanes in JAX are stored, except in a search or in evolution, where candidates take turns.
        """
        if not self._saves_lanes or not self._has_begun:
            return None
        lanes: SavedLanes = self._team.sharded(self._fleet.saved_lanes(), axis=0)
        return lanes

    def lanes_like(self) -> SavedLanes:
        """Shapes of what ``saved_lanes`` returns, after ``begin``."""
        own = jax.eval_shape(self._fleet.rollouts[0].saved_lanes)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((self._num_lanes, *x.shape[1:]), x.dtype), own)

    def restore_lanes(self, saved: SavedLanes) -> None:
        """Brings the lanes, in which new episodes have begun, back to where they were."""
        self._fleet.restore_lanes([self._team.here(saved, number) for number in range(len(self._team.devices))])

    def players(self, state: Any) -> list[Players]:
        """Returns the players of each device of this process."""
        if self._queues:
            self._states = [jax.device_put(state, device) for device in self._team.devices]
            return list(self._queues)
        population = self._learner.ask(state, jax.device_put(np.zeros(1, np.int32)))
        lanes = self._fleet.num_lanes // len(self._team.devices)
        return [FixedPopulation(jax.device_put(population, device), lanes) for device in self._team.devices]

    def note(self) -> None:
        """Notes at the end of an iteration what a checkpoint stores: who plays, who waits, and what the lanes did."""
        self._snapshot = joined([queue.snapshot() for queue in self._queues]) if self._queues else None
        plays = self._snapshot.playing != IDLE if self._snapshot else slice(None)
        if not self._saves_lanes:
            self._checksums = self._fleet.checksums[plays].tobytes()

    @property
    def has_games(self) -> bool:
        """Whether this process has episodes left to play; always true for a learner that does not ask for rounds."""
        return self._learner.episodes_to_play is None or not all(queue.finished for queue in self._queues)

    @property
    def agent_steps(self) -> int:
        """Agent steps of each of this process's lanes since the segment began."""
        return self._fleet.agent_steps_since_reset

    @property
    def may_end(self) -> bool:
        """Whether the first episode of the segment is over in each of this process's lanes.

        A segment never ends before that. Otherwise an episode that lasts longer than a segment would never end.
        """
        idle = np.concatenate([queue.playing for queue in self._queues]) == IDLE if self._queues else False
        longest_game_is_over = self.agent_steps > self._config.env.max_episode_agent_steps
        return longest_game_is_over or bool((self._fleet.first_episodes_are_over | idle).all())

    def end(self) -> None:
        """Ends the segment and drops its unfinished episodes."""
        self._fleet.drop_episodes()
        self._queues, self._snapshot, self._checksums = [], None, b""

    def unfinished(self) -> UnfinishedEpisodes | None:
        """Returns what a checkpoint needs to bring back the episodes of all processes; None between two segments."""
        own = {
            "actions": zlib.compress(self._fleet.actions.tobytes(), 1),
            "queue": queue_to_json(self._snapshot) if self._snapshot else None,
            "checksums": self._checksums,
        }
        everyones = self._team.gather(own)
        plain = [np.frombuffer(zlib.decompress(one["actions"]), np.uint8) for one in everyones]
        if not any(actions.size for actions in plain):
            return None
        rows = [actions.reshape(-1, self._fleet.num_lanes) for actions in plain]
        queue = joined([queue_from_json(one["queue"]) for one in everyones]) if self._snapshot else None
        checksum = zlib.crc32(b"".join(one["checksums"] for one in everyones))
        return UnfinishedEpisodes.of(self.depend_on, side_by_side(rows), queue, checksum)

    def _seeds(self, segment: int) -> np.ndarray:
        of_members = [lane_seeds(seed, segment, self._config.env.num_lanes) for seed in self._seeds_of_members]
        return np.concatenate(of_members)[self._own_lanes]

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

    def _checked_actions(
        self, state: Any, progress: RunProgress, games: UnfinishedEpisodes, folder: Path
    ) -> np.ndarray:
        num_actions = games.agent_steps * games.lanes
        what = f"{num_actions} agent steps of unfinished games"
        check_memory([Part("checkpoint.segment_agent_steps", what, num_actions)])
        try:
            if num_actions > progress.agent_steps:
                raise ValueError("its games are longer than the run")
            actions = games.unpacked()
            if not ((actions < self._num_actions) | (actions == NOT_SENT)).all():
                raise ValueError("its games contain actions that this game does not have")
            asks = self._learner.episodes_to_play
            wanted, queue = asks(state) if asks else None, games.queue
            if (wanted is None) != (queue is None) or (wanted is not None and queue and not queue.is_of(wanted)):
                raise ValueError("its games are not those that the learner asks for")
            if queue and (len(queue.waiting) != self._lane_groups or len(queue.playing) != actions.shape[1]):
                raise ValueError("its games do not fit the number of lanes")
        except ValueError as error:
            raise UserError(f"{folder}: the run cannot go on from its checkpoint: {error}") from error
        return actions
