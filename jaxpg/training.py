"""The training loop of one process: its state, its saves, and what is written on the way."""

import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.candidates import CandidateQueue, QueueSnapshot
from jaxpg.checkpoint import Checkpoints
from jaxpg.config import Config
from jaxpg.counters import WINDOW_EPISODES, Progress
from jaxpg.errors import UserError
from jaxpg.experiment import Experiment, lane_seeds
from jaxpg.metrics import EpisodeRow, EpisodesCsv, JsonLines, Record, TensorBoard, Writer
from jaxpg.progress import count_up, make_progress
from jaxpg.recorder import Recorder
from jaxpg.resume import Games, Metadata, emulators_of
from jaxpg.rollout import NOT_SENT, Seconds
from jaxpg.stop import Stop
from jaxpg.types import Episodes


class Training:
    """One process's work on a run: the state, the loop, and what is written on the way."""

    def __init__(self, config: Config, folder: Path, experiment: Experiment, *, resume: bool):
        self.config, self.folder, self.experiment = config, folder, experiment
        seed_key = jax.random.key(config.run.seed)
        init_key, learner_key, self._act_key = jax.random.split(seed_key, 3)
        params = jax.jit(experiment.policy.init)(init_key)
        self.state = experiment.learner.init(learner_key, params)
        self.progress = Progress()
        self.unsaved: str | None = None
        """Why the newest save failed; None where it did not."""
        self._writes_fail = False
        self._queue: CandidateQueue | None = None
        self._queue_snapshot: QueueSnapshot | None = None  # as the newest iteration left it
        self._games: Games | None = None  # that a restored run was in the middle of
        self._emulators = emulators_of(config.env, config.run.seed)
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            keep_newest=config.checkpoint.keep_newest,
            keep_every=(config.checkpoint.keep_every, config.run.record_every),
        )
        if restored := self.checkpoints.newest_whole(self.state) if resume else None:
            self.state, metadata = restored
            self.progress, self._games = metadata.progress, metadata.games
        last, agent_steps = self.progress.iteration, self.progress.agent_steps
        self._logs: list[JsonLines | EpisodesCsv] = [
            JsonLines(folder / "metrics.jsonl", last),
            EpisodesCsv(folder / "episodes.csv", agent_steps),
        ]
        self._writers: list[Writer] = [
            *self._logs,
            TensorBoard(folder / "tensorboard", agent_steps),
            make_progress(config.run.budget_agent_steps, agent_steps),
        ]

    def run(self, stop: Stop, recorder: Recorder) -> str:
        """Trains until the budget, the target or a signal ends it; returns why it ended."""
        progress, checkpoint = self.progress, self.config.checkpoint
        saved_iteration, saved_at = max(self.checkpoints.iterations(), default=-1), time.monotonic()
        if self._reason_to_end(stop) is None:
            self._go_on_with_games(stop)
        while (reason := self._reason_to_end(stop)) is None:
            self._iterate()
            if segment_ends := self._segment_ends():
                progress.segment += 1
                self.experiment.rollout.end_games()
            due = _is_multiple(progress.iteration, checkpoint.every_iterations)
            recorded = _is_multiple(progress.iteration, self.config.run.record_every)
            late = checkpoint.every_seconds and time.monotonic() - saved_at >= checkpoint.every_seconds
            if due or recorded or late:
                saved_at = time.monotonic()
                if self.save():
                    saved_iteration = progress.iteration
            if recorded and saved_iteration == progress.iteration:
                recorder.add(progress.iteration)
            recorder.poll()
            if segment_ends and self._reason_to_end(stop) is None:
                self._begin_segment()
        if saved_iteration != progress.iteration:
            self.save()
        return reason

    def save(self) -> bool:
        """Writes a checkpoint of the state, the progress and the games; says so and returns False where it cannot.

        Raises:
          UserError: a weight is infinite or NaN; such a state is of no use, and nothing is written.
        """
        if not _all_finite(self.state):
            raise self._not_finite("a weight became infinite or NaN")
        actions = self.experiment.rollout.actions
        games = Games.of(self._emulators, actions, self._queue_snapshot) if len(actions) else None
        try:
            for log in self._logs:  # first, because a resumed run keeps what they say up to the checkpoint
                log.sync()
            self.checkpoints.save(self.progress.iteration, self.state, Metadata(progress=self.progress, games=games))
        except OSError as error:
            self.unsaved = f"iteration {self.progress.iteration} was not saved: {error}"
            self._say(f"{self.unsaved}; the training goes on, and the next save tries again")
            return False
        self.unsaved = None
        return True

    def close(self) -> None:
        for writer in self._writers:
            try:
                writer.close()
            except OSError as error:
                self.unsaved = str(error)
        self.checkpoints.close()
        self.experiment.rollout.close()

    def _go_on_with_games(self, stop: Stop) -> None:
        """Begins a segment, or plays the games of an interrupted one again up to where they were."""
        games, rollout = self._games, self.experiment.rollout
        if games is None:
            self._begin_segment()
            return
        if not self.config.checkpoint.replay or games.emulators != self._emulators:
            why = "the emulators are others" if self.config.checkpoint.replay else "checkpoint.replay is off"
            self._say(f"{why}: new games are begun, so that the run goes on differently than without interruption")
            self._games = None
            self.progress.segment += 1
            self._begin_segment()
            return
        actions = self._checked_actions(games)
        with count_up("replayed_agent_steps", actions.size) as advance:
            for agent_steps in rollout.replay(self._segment_seeds(), actions):
                advance(agent_steps)
                if stop.signal is not None:
                    return
        self._games = None
        self._queue_snapshot = games.queue
        if games.queue:
            self._queue = CandidateQueue.at(games.queue, lambda ids: self.experiment.learner.ask(self.state, ids))

    def _checked_actions(self, games: Games) -> np.ndarray:
        """What is to be played again; UserError where it does not fit the run, as in a stranger's checkpoint."""
        experiment, longest = self.experiment, self.config.checkpoint.segment_agent_steps
        try:
            if games.agent_steps > longest + experiment.rollout_agent_steps:
                raise ValueError(f"its games are longer than checkpoint.segment_agent_steps, {longest}")
            actions = games.unpacked()
            if not ((actions < experiment.rollout.pools[0].spec.num_actions) | (actions == NOT_SENT)).all():
                raise ValueError("its games have actions that this game has not")
            wanted = experiment.learner.games(self.state) if experiment.learner.games else None
            queue = games.queue
            if (wanted is None) != (queue is None) or (wanted is not None and queue and not queue.is_of(wanted)):
                raise ValueError("its games are others than the learner asks for")
        except ValueError as error:
            raise UserError(f"{self.folder}: the checkpoint cannot be played on: {error}") from error
        return actions

    def _segment_ends(self) -> bool:
        """Whether new games are due: after so many agent steps, or a round's last game."""
        played = self.experiment.rollout.agent_steps_of_games
        return played >= self.config.checkpoint.segment_agent_steps or bool(self._queue and self._queue.finished)

    def _segment_seeds(self) -> np.ndarray:
        return lane_seeds(self.config.run.seed, self.progress.segment, self.config.env.num_lanes)

    def _begin_segment(self) -> None:
        """Starts new games in all lanes, with seeds of their own; a round of search or evolution begins or goes on."""
        learner = self.experiment.learner
        self.experiment.rollout.reset(self._segment_seeds())
        if learner.games:
            games, num_lanes = learner.games(self.state), self.config.env.num_lanes
            self._queue = CandidateQueue(games, num_lanes, lambda ids: learner.ask(self.state, ids))

    def _reason_to_end(self, stop: Stop) -> str | None:
        run, progress = self.config.run, self.progress
        if stop.signal is not None:
            return signal.Signals(stop.signal).name
        if run.target_return is not None and len(progress.last_returns) == WINDOW_EPISODES:
            mean = progress.return_mean_100
            if mean is not None and mean >= run.target_return:
                return "target return reached"
        games = self.experiment.learner.games
        if games and (self._queue is None or self._queue.finished) and not games(self.state).size:
            return "all games played"
        if progress.agent_steps >= run.budget_agent_steps:
            return "budget of agent steps used"
        if run.budget_episodes and progress.episodes >= run.budget_episodes:
            return "budget of games used"
        if run.budget_seconds and progress.wall_seconds >= run.budget_seconds:
            return "budget of seconds used"
        return None

    def _iterate(self) -> None:
        progress, learner = self.progress, self.experiment.learner
        t0 = time.perf_counter()
        players = self._queue or learner.ask(self.state, jnp.zeros(1, jnp.int32))
        key = jax.random.fold_in(self._act_key, progress.iteration)
        experience, seconds = self.experiment.rollout.collect(players, self.experiment.rollout_agent_steps, key)
        t1 = time.perf_counter()
        self.state, on_device = learner.tell(self.state, experience)
        metrics = {name: np.asarray(value).item() for name, value in jax.device_get(on_device).items()}
        t2 = time.perf_counter()
        agent_steps_before = progress.agent_steps
        self._queue_snapshot = self._queue.snapshot() if self._queue else None
        progress.metrics |= metrics
        progress.iteration += 1
        progress.agent_steps += experience.reward.size
        progress.episodes += len(experience.episodes.lane)
        progress.last_returns.extend(experience.episodes.episode_return.tolist())
        self._check_finite(metrics)
        wall = t2 - t0
        progress.wall_seconds += wall
        speed = experience.reward.size / wall
        record = self._record(metrics, seconds, speed, learn=t2 - t1, wall=wall)
        rows = self._episode_rows(experience.episodes, agent_steps_before)
        troubles = []
        for writer in self._writers:
            try:
                writer.write(record, rows)
            except OSError as error:
                troubles.append(str(error))
        if troubles and not self._writes_fail:
            self._say(f"{', '.join(troubles)}; the training goes on, and what is missing is written later")
        self._writes_fail = bool(troubles)
        progress.wall_seconds += time.perf_counter() - t2

    def _record(
        self, metrics: dict[str, float], seconds: Seconds, speed: float, *, learn: float, wall: float
    ) -> Record:
        progress = self.progress
        return {
            "iteration": progress.iteration,
            "agent_steps": progress.agent_steps,
            "frames": progress.agent_steps * self.experiment.frame_skip,
            "episodes": progress.episodes,
            "wall_seconds": round(progress.wall_seconds, 3),
            "agent_steps_per_second": round(speed, 1),
            "return_mean_100": progress.return_mean_100,
            **metrics,
            "emulate_seconds": round(seconds.emulate, 6),
            "act_seconds": round(seconds.act, 6),
            "learn_seconds": round(learn, 6),
            "other_seconds": round(wall - seconds.emulate - seconds.act - learn, 6),
        }

    def _episode_rows(self, episodes: Episodes, agent_steps_before: int) -> list[EpisodeRow]:
        num_lanes, wall = self.experiment.rollout.num_lanes, round(self.progress.wall_seconds, 3)
        return [
            EpisodeRow(agent_steps_before + (step + 1) * num_lanes, wall, *game)
            for step, *game in zip(*(column.tolist() for column in episodes), strict=True)
        ]

    def _check_finite(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._not_finite(f"{name} became {value}")

    def _not_finite(self, what: str) -> UserError:
        good = self.checkpoints.iterations()
        last = f"the last good checkpoint is iteration {good[-1]}" if good else "there is no checkpoint yet"
        return UserError(
            f"{self.folder}: {what} in iteration {self.progress.iteration}; {last}; "
            "a smaller optimizer.learning_rate often helps"
        )

    def _say(self, sentence: str) -> None:
        print(f"jaxpg: {self.folder}: {sentence}", file=sys.stderr, flush=True)


def _is_multiple(iteration: int, every: int) -> bool:
    """Whether it is this iteration's turn; 0 is never."""
    return every > 0 and iteration % every == 0


def _all_finite(state: Any) -> bool:
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(jax.device_get([jnp.isfinite(x).all() for x in floats]))
