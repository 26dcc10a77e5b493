"""The training loop of one process, with the state that it trains, its checkpoints and its logs."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import jax

from jaxpg.config import Config, schedule_progress
from jaxpg.core.errors import UserError, first_line
from jaxpg.kernel.clock import Seconds
from jaxpg.kernel.jax_rollout import all_finite
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.task import check_resumed
from jaxpg.machine.console import say
from jaxpg.machine.signals import Stop
from jaxpg.machine.waiting import count_up, said_while_waiting
from jaxpg.parallel.team import Team
from jaxpg.run.checkpoint_metadata import Metadata, UnfinishedEpisodes
from jaxpg.run.checkpoints import Checkpoints
from jaxpg.run.iteration import play_and_learn
from jaxpg.run.members import check_members, first_state, key_of_iteration, numbers_of_members
from jaxpg.run.recorder import Recorder
from jaxpg.run.run_progress import MemberProgress, RunProgress
from jaxpg.run.run_writers import RunWriters
from jaxpg.run.segments import Segments, segment_agent_steps
from jaxpg.run.writers import EpisodeRow, Record, Writer, episode_rows

SECONDS_BETWEEN_BEST = 10.0
"""Least seconds between a save and another that is due only because the policy became better.

A clock may decide about saves, because a save does not change the episodes.
"""


Callback = Callable[[Record, list[EpisodeRow]], bool | None]
"""Function ``(record, episodes) -> bool | None`` that is called after each iteration. False ends the run."""


class _Agreed(NamedTuple):
    """What all processes have agreed on after an iteration."""

    signal: int | None
    late: bool  # whether a save is due by the clock
    out_of_time: bool  # whether the budget of seconds is used up
    called_off: bool  # whether a callback has ended the run
    all_played: bool  # whether no episode is left to play
    segment_ends: bool


class Training:
    """One process's work on a run: it holds the state and runs the loop. The leading process also writes the logs.

    Args:
      config: the configuration of the run.
      folder: the run folder.
      experiment: the policy, learner and emulators of the run.
      team: the devices and processes that work on the run. All processes call the same methods in the same order.
      resume: whether to go on from the newest undamaged checkpoint.
      make_writers: called with the run's progress; returns the writers besides ``metrics.jsonl`` and ``episodes.csv``.
      callbacks: functions that the leading process calls after each iteration.

    Raises:
      UserError: the newest checkpoint does not fit, or a file of the run is damaged.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        experiment: Experiment,
        team: Team,
        *,
        resume: bool,
        make_writers: Callable[[RunProgress], Sequence[Writer]] = lambda progress: (),
        callbacks: Sequence[Callback] = (),
    ):
        self.config, self.folder, self.experiment, self.team = config, folder, experiment, team
        state, self._act_key = first_state(experiment, config.run.seed)
        self.state = jax.device_put(state, team.devices[0])
        self.progress = RunProgress(members=[MemberProgress() for _ in experiment.members])
        self.unsaved: str | None = None
        """Why the newest save failed; None where it succeeded."""
        self.callbacks = list(callbacks)
        self._called_off = False  # whether a callback has ended the run
        self._segments = Segments(config, experiment, team)
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            team,
            keep_newest=config.checkpoint.keep_newest,
            keep_every=(config.checkpoint.keep_every, config.run.record_every),
        )
        self._to_replay: UnfinishedEpisodes | None = None
        """Unfinished episodes of the checkpoint, until the emulators have played them again."""
        self._lanes_depend_on: str | None = None  # what the checkpoint's lanes depend on, where it has any
        if restored := self.checkpoints.newest_whole(self.state, self._check_task) if resume else None:
            self.state, metadata = restored
            self.progress, self._to_replay = metadata.progress, metadata.games
            self._lanes_depend_on = metadata.lanes_depend_on
            if metadata.task and (changes := check_resumed(metadata.task, experiment.task)):
                self._say(f"{'; '.join(changes)}; the mean return of the last 100 games begins anew")
                self.progress.forget_returns()
        self._writers = team.together(lambda: self._open_writers(make_writers))

    def run(self, stop: Stop, recorder: Recorder) -> str:
        """Trains until the budget, the target, a callback or a signal ends the run; returns why it ended.

        Args:
          stop: notes the signals that the process receives.
          recorder: records videos of checkpoints meanwhile.

        Raises:
          UserError: a metric or a weight became infinite or NaN.
          FaultError: emulators failed.
        """
        progress, checkpoint = self.progress, self.config.checkpoint
        saved_iteration = max(self.checkpoints.iterations(), default=-1)
        saved_at, save_seconds = time.monotonic(), 0.0
        if self._reason_to_end(self._agreed(stop)) is None:
            self._go_on_with_games(stop)
        stop.note_signals()
        agreed = self._agreed(stop)
        while (reason := self._reason_to_end(agreed)) is None:
            with self._said(None if stop.keeps else "compiling, and playing the first iteration"):
                self._iterate()
            stop.keep()
            began = time.perf_counter()
            agreed = self._agreed(stop, late=self._is_late(time.monotonic() - saved_at, save_seconds))
            progress.wall_seconds += time.perf_counter() - began
            if agreed.segment_ends:
                progress.segment += 1
                self._segments.end()
            due = _is_multiple(progress.iteration, checkpoint.every_iterations)
            recorded = _is_multiple(progress.iteration, self.config.run.record_every)
            if due or recorded or agreed.late:
                began_save = time.monotonic()
                if self.save():
                    saved_iteration = progress.iteration
                saved_at = time.monotonic()
                save_seconds = saved_at - began_save
            if recorded and saved_iteration == progress.iteration and self.team.leads:
                recorder.add(progress.iteration)
            recorder.poll()
            if agreed.segment_ends and self._reason_to_end(agreed) is None:
                self._segments.begin(self.state, progress.segment)
        if saved_iteration != progress.iteration:
            with self._said("saving the end of the run"):
                self.save()
        return reason

    def _said(self, what: str | None) -> AbstractContextManager[None]:
        """The leading process prints ``what`` if the block takes more than two seconds."""
        return said_while_waiting(what) if what and self.team.leads else nullcontext()

    def save(self) -> bool:
        """Writes a checkpoint of the state, the progress and the unfinished episodes.

        Returns:
          Whether the checkpoint was written. Where it was not, a printed sentence says why.

        Raises:
          UserError: a weight is infinite or NaN. Such a state is of no use, and nothing is written.
        """
        if not all_finite(self.state):
            raise self._not_finite("a weight became infinite or NaN")
        self.team.check_alike(self.state, "learner's state")
        progress, games = self.progress, self._to_replay or self._segments.unfinished()
        lanes = self._segments.saved_lanes()
        best_before = progress.best_iteration, progress.best_score
        progress.note_best(self.experiment.learner.score)
        try:
            self.team.together(lambda: self._writers.sync() if self._writers else None)
            depend_on = self._segments.depend_on if lanes else None
            metadata = Metadata(progress=progress, games=games, task=self.experiment.task, lanes_depend_on=depend_on)
            self.checkpoints.save(progress.iteration, self.state, metadata, lanes)
        except OSError as error:
            progress.best_iteration, progress.best_score = best_before
            self.unsaved = f"iteration {progress.iteration} was not saved: {first_line(error)}"
            self._say(f"{self.unsaved}; the training goes on, and the next save tries again")
            return False
        self.unsaved = None
        return True

    def _is_late(self, seconds: float, save_seconds: float) -> bool:
        """Whether a save is due by the clock.

        A save is due when the last one is long ago, or when the policy is notably better than every saved one. Saves
        of the second kind take at most a hundredth of the time.

        Args:
          seconds: seconds since the last save.
          save_seconds: how many seconds the last save took.
        """
        every_seconds = self.config.checkpoint.every_seconds
        if not every_seconds:
            return False
        may_keep_best = seconds >= max(SECONDS_BETWEEN_BEST, 100 * save_seconds)
        better = may_keep_best and self.progress.is_notably_best(self.experiment.learner.score)
        return better or seconds >= every_seconds

    def close(self) -> None:
        self.unsaved = (self._writers.close() if self._writers else None) or self.unsaved
        self.checkpoints.close()
        self.experiment.fleet.close()

    def _check_task(self, metadata: Metadata) -> None:
        check_members(metadata.progress, len(self.experiment.members))
        if metadata.task:
            check_resumed(metadata.task, self.experiment.task)

    def _open_writers(self, make_writers: Callable[[RunProgress], Sequence[Writer]]) -> RunWriters | None:
        """Opens all writers in the leading process; lines of the logs after the checkpoint are dropped."""
        if not self.team.leads:
            return None
        try:
            return RunWriters(self.folder, self.progress, make_writers(self.progress), self._say)
        except OSError as error:
            raise UserError(f"{self.folder}: the run's files cannot be written: {error.strerror or error}") from error

    def _agreed(self, stop: Stop, *, late: bool = False) -> _Agreed:
        """Exchanges what each process has noticed, so that all processes act on it in the same iteration."""
        over = self.config.run.budget_seconds and self.progress.wall_seconds >= self.config.run.budget_seconds
        said = self.team.gather(
            {
                "signal": stop.signal,
                "late": late,
                "over": bool(over),
                "games": self._segments.has_games,
                "agent_steps": self._segments.agent_steps,
                "may_end": self._segments.may_end,
                "called_off": self._called_off,
            }
        )
        signals = [one["signal"] for one in said if one["signal"] is not None]
        all_played = not any(one["games"] for one in said)
        has_rounds = self.experiment.learner.episodes_to_play is not None
        longest = segment_agent_steps(self.config, self.progress, has_rounds=has_rounds)
        is_long = max(one["agent_steps"] for one in said) >= longest
        if signals:
            stop.signal = signals[0]
        return _Agreed(
            signal=signals[0] if signals else None,
            late=said[0]["late"],
            out_of_time=said[0]["over"],
            called_off=said[0]["called_off"],
            all_played=all_played,
            segment_ends=all_played or (is_long and all(one["may_end"] for one in said)),
        )

    def _go_on_with_games(self, stop: Stop) -> None:
        """Begins a segment, or brings the episodes of an interrupted one back: from the checkpoint, or by a replay."""
        games = self._to_replay
        depend_on = games.depend_on if games else self._lanes_depend_on
        if depend_on is None:
            self._segments.begin(self.state, self.progress.segment)
        elif not self.config.checkpoint.replay:
            self._begin_new_games("checkpoint.replay is off")
        elif depend_on != self._segments.depend_on:
            self._begin_new_games("the seed or the emulator settings have changed")
        elif games is None:
            self._segments.begin(self.state, self.progress.segment)
            self._segments.restore_lanes(self.checkpoints.lanes(self.progress.iteration, self._segments.lanes_like()))
        else:
            self._say_replay(games)
            own_agent_steps = games.agent_steps * self.experiment.fleet.num_lanes
            with count_up("replayed_agent_steps", own_agent_steps) as advance:
                for agent_steps in self._segments.bring_back(self.state, self.progress, games, self.folder):
                    advance(agent_steps)
                    if stop.signal is not None:
                        break
            is_over = stop.signal is None
            if self._segments.are_other_games(games, is_over=is_over):
                self._begin_new_games("the same seeds and actions led to other games (changed, or not deterministic)")
            elif not is_over:
                return
        self._to_replay = None

    def _begin_new_games(self, why: str) -> None:
        """Begins new episodes where those of the checkpoint cannot be brought back, and prints why they cannot."""
        self._say(f"{why}: new games are begun, so that the run goes on differently than without interruption")
        self.progress.segment += 1
        self._segments.begin(self.state, self.progress.segment)

    def _say_replay(self, games: UnfinishedEpisodes) -> None:
        """Prints how long the replay takes, because the user may rather begin new episodes."""
        agent_steps, progress = games.agent_steps * games.lanes, self.progress
        seconds = agent_steps * progress.wall_seconds / max(progress.agent_steps, 1)
        time_text = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        if self.team.leads:
            say(
                f"jaxpg: {self.folder}: {agent_steps:,} agent steps of unfinished games are played again, which takes "
                f"at most about {time_text}; --checkpoint.no-replay begins new games instead"
            )

    def _reason_to_end(self, agreed: _Agreed) -> str | None:
        run, progress = self.config.run, self.progress
        if agreed.signal is not None:
            return signal.Signals(agreed.signal).name
        if run.target_return is not None and progress.has_reached(run.target_return):
            return "target return reached"
        games = self.experiment.learner.episodes_to_play
        if games and agreed.all_played and not games(self.state).size:
            return "all games played"
        if progress.agent_steps >= run.budget_agent_steps:
            return "budget of agent steps used"
        if run.budget_episodes and progress.fewest_episodes >= run.budget_episodes:
            return "budget of games used"
        if agreed.out_of_time:
            return "budget of seconds used"
        if agreed.called_off:
            return "a callback ended the run"
        return None

    def _iterate(self) -> None:
        progress, experiment = self.progress, self.experiment
        t0 = time.perf_counter()
        key = key_of_iteration(self._act_key, progress.iteration)
        scheduled = schedule_progress(self.config, progress.agent_steps)
        self.state, played, each, seconds, t1 = play_and_learn(
            experiment, self._segments.players, self.team, self.state, key, scheduled
        )
        t2 = time.perf_counter()
        agent_steps_before = progress.agent_steps
        self._segments.note()
        if experiment.learner.episodes_to_play:
            each[0]["lane_utilisation"] = played.acted / max(played.agent_steps, 1)
        progress.iteration += 1
        progress.agent_steps += played.agent_steps // len(each)
        progress.count_all(each, played.episodes, self.config.env.num_lanes)
        self._check_finite(each)
        metrics = each[0] if len(each) == 1 else {name: progress.metrics[name] for name in each[0]}
        wall = t2 - t0
        progress.wall_seconds += wall
        speed = played.agent_steps / wall
        record = self._record(metrics, seconds, speed, learn=t2 - t1, wall=wall)
        if self._writers:
            rows = episode_rows(played.episodes, agent_steps_before, self.config.env.num_lanes, progress.wall_seconds)
            self._writers.write(record, rows)
            self._call_back(record, rows)
        progress.wall_seconds += time.perf_counter() - t2

    def _call_back(self, record: Record, rows: list[EpisodeRow]) -> None:
        """Asks every callback whether the run goes on; saves a checkpoint before a callback's error ends the run."""
        try:
            self._called_off |= False in [callback(record, rows) for callback in self.callbacks]
        except BaseException:
            self.save()
            raise

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
            **numbers_of_members(progress),
            "emulate_seconds": round(seconds.emulate, 6),
            "act_seconds": round(seconds.act, 6),
            "learn_seconds": round(learn, 6),
            "other_seconds": round(wall - seconds.emulate - seconds.act - learn, 6),
        }

    def _check_finite(self, each: Sequence[dict[str, float]]) -> None:
        for number, metrics in enumerate(each):
            for name, value in metrics.items():
                if not math.isfinite(value):
                    whose = f" of member {number}" if len(each) > 1 else ""
                    raise self._not_finite(f"{name}{whose} became {value}")

    def _not_finite(self, what: str) -> UserError:
        good = self.checkpoints.iterations()
        last = f"the last good checkpoint is iteration {good[-1]}" if good else "there is no checkpoint yet"
        way_out = "a smaller optimizer.learning_rate often helps"
        if self.progress.iteration <= 1:
            way_out = (
                "a setting such as optimizer.learning_rate is far too large, or the policy itself returns such numbers"
            )
        return UserError(f"{self.folder}: {what} in iteration {self.progress.iteration}; {last}; {way_out}")

    def _say(self, sentence: str) -> None:
        if self.team.leads:
            say(f"jaxpg: {self.folder}: {sentence}", error=True)


def _is_multiple(iteration: int, every: int) -> bool:
    """Whether ``iteration`` is a multiple of ``every``; never where ``every`` is 0."""
    return every > 0 and iteration % every == 0
