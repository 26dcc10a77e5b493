"""``python -m jaxpg.train``: configuration -> pieces -> the training loop -> the run folder."""

import math
import signal
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.candidates import CandidateQueue
from jaxpg.checkpoint import Checkpoints
from jaxpg.cli import parse_train, run_command
from jaxpg.compiled import keep_compiled_code
from jaxpg.config import Config
from jaxpg.counters import Progress
from jaxpg.errors import UserError
from jaxpg.experiment import Experiment, build, lane_seeds
from jaxpg.memory import keep_freed_memory
from jaxpg.metrics import EpisodeRow, EpisodesCsv, JsonLines, Record, TensorBoard, Writer, write_json
from jaxpg.progress import make_progress
from jaxpg.recorder import Recorder, check_recordable
from jaxpg.rollout import Seconds
from jaxpg.runfolder import make_run_folder, new_run_folder
from jaxpg.types import Episodes


class Stop:
    """Notes SIGTERM and Ctrl-C, so that the loop ends after the iteration; a second one ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.restore()

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Training:
    """One process's work on a run: the state, the loop, and what is written on the way."""

    def __init__(self, config: Config, folder: Path, experiment: Experiment, *, resume: bool):
        self.config, self.folder, self.experiment = config, folder, experiment
        seed_key = jax.random.key(config.run.seed)
        init_key, learner_key, self._act_key = jax.random.split(seed_key, 3)
        params = jax.jit(experiment.policy.init)(init_key)
        self.state = experiment.learner.init(learner_key, params)
        self.progress = Progress()
        self._queue: CandidateQueue | None = None
        self.checkpoints = Checkpoints(
            folder / "checkpoints",
            keep_newest=config.checkpoint.keep_newest,
            keep_every=(config.checkpoint.keep_every, config.run.record_every),
        )
        if resume:
            self._restore()
        last, agent_steps = self.progress.iteration, self.progress.agent_steps
        self._writers: list[Writer] = [
            JsonLines(folder / "metrics.jsonl", last),
            EpisodesCsv(folder / "episodes.csv", agent_steps),
            TensorBoard(folder / "tensorboard", agent_steps),
            make_progress(config.run.budget_agent_steps, agent_steps),
        ]

    def run(self, stop: Stop, recorder: Recorder) -> str:
        """Trains until the budget, the target or a signal ends it; returns why it ended."""
        progress, checkpoint = self.progress, self.config.checkpoint
        saved_iteration, saved_at = max(self.checkpoints.iterations(), default=-1), time.perf_counter()
        segment_ends = True  # and the next one begins
        if self._reason_to_end(stop) is None:
            self._begin_segment()
        while (reason := self._reason_to_end(stop)) is None:
            self._iterate()
            due = _is_multiple(progress.iteration, checkpoint.every_iterations)
            recorded = _is_multiple(progress.iteration, self.config.run.record_every)
            late = checkpoint.every_seconds and time.perf_counter() - saved_at >= checkpoint.every_seconds
            segment_ends = due or bool(self._queue and self._queue.finished)
            progress.segment += segment_ends
            if due or recorded or late:
                self.save(within_segment=not segment_ends)
                saved_iteration, saved_at = progress.iteration, time.perf_counter()
            if recorded:
                recorder.add(progress.iteration)
            recorder.poll()
            if segment_ends and self._reason_to_end(stop) is None:
                self._begin_segment()
        progress.segment += not segment_ends
        if saved_iteration != progress.iteration:
            self.save(within_segment=False)
        return reason

    def save(self, *, within_segment: bool) -> None:
        """Writes a checkpoint of the state and the progress; UserError rather than one that is of no use.

        Within a segment the games go on here, whereas whoever resumes starts the next segment.
        """
        if not _all_finite(self.state):
            raise self._not_finite("a weight became infinite or NaN")
        metadata = {**self.progress.to_json(), "segment": self.progress.segment + within_segment}
        self.checkpoints.save(self.progress.iteration, self.state, metadata)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self.checkpoints.close()
        self.experiment.rollout.close()

    def _restore(self) -> None:
        iterations = self.checkpoints.iterations()
        if not iterations:
            raise UserError(f"{self.folder}: no checkpoint to resume from")
        self.state, metadata = self.checkpoints.restore(iterations[-1], self.state)
        self.progress = Progress.from_json(metadata)

    def _begin_segment(self) -> None:
        """Starts new games in all lanes, with seeds of their own; a round of search or evolution begins or goes on."""
        config, learner = self.config, self.experiment.learner
        num_lanes = config.env.num_lanes
        self.experiment.rollout.reset(lane_seeds(config.run.seed, self.progress.segment, num_lanes))
        if learner.games:
            self._queue = CandidateQueue(learner.games(self.state), num_lanes, lambda ids: learner.ask(self.state, ids))

    def _reason_to_end(self, stop: Stop) -> str | None:
        run, progress = self.config.run, self.progress
        if stop.signal is not None:
            return signal.Signals(stop.signal).name
        if run.target_return is not None and len(progress.last_returns) == 100:
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
        for writer in self._writers:
            writer.write(record, rows)
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


def train(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code: 0, or 128 plus the number of the signal that ended it."""
    stop = Stop()
    try:
        return _train(argv, stop)
    finally:
        stop.restore()


def _train(argv: Sequence[str], stop: Stop) -> int:
    arguments = parse_train(argv)
    config = arguments.config
    keep_freed_memory()
    keep_compiled_code()
    experiment = build(config)
    if config.run.record_every:
        check_recordable(config.env)
    if arguments.resume:
        folder = Path(arguments.resume)
    else:
        folder = new_run_folder(config)
        make_run_folder(folder, config)
    device = jax.devices()[0]
    print(
        f"jaxpg: {config.env.game} on {config.env.backend}, {config.env.num_lanes} lanes, "
        f"{device.platform} ({device.device_kind}), run folder {folder}",
        flush=True,
    )
    training = Training(config, folder, experiment, resume=bool(arguments.resume))
    if arguments.resume:
        make_run_folder(folder, config)  # with the new flags, now that they fit the checkpoint
    with closing(Recorder(folder)) as recorder:
        with closing(training):
            reason = training.run(stop, recorder)
        _say_end(training, reason)
        _wait_for_videos(recorder, stop)
    return 128 + stop.signal if stop.signal is not None else 0


def _say_end(training: Training, reason: str) -> None:
    """The end of a run, for its summary.json and for who watches."""
    progress, report = training.progress, training.experiment.learner.report
    write_json(training.folder / "summary.json", {"ended": reason, **_without_returns(progress)})
    mean = "-" if progress.return_mean_100 is None else f"{progress.return_mean_100:.2f}"
    print(
        f"jaxpg: {reason}; {progress.agent_steps:,} agent steps, {progress.episodes:,} games in "
        f"{progress.wall_seconds:.0f} s; mean return of the last 100 games {mean}; all of it in {training.folder}",
        flush=True,
    )
    if report:
        print(f"jaxpg: {report(progress.metrics)}", flush=True)


def _wait_for_videos(recorder: Recorder, stop: Stop) -> None:
    left = len(recorder.unrecorded)
    if left and stop.signal is None:
        print(f"jaxpg: waiting for {left} video{'s' if left > 1 else ''}", flush=True)
    while recorder.unrecorded and stop.signal is None:
        recorder.wait(seconds=0.1)


def _is_multiple(iteration: int, every: int) -> bool:
    """Whether it is this iteration's turn; 0 is never."""
    return every > 0 and iteration % every == 0


def _all_finite(state: Any) -> bool:
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(jax.device_get([jnp.isfinite(x).all() for x in floats]))


def _without_returns(progress: Progress) -> dict[str, Any]:
    data = progress.to_json()
    del data["last_returns"]
    return {**data, "return_mean_100": progress.return_mean_100}


def main(argv: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    run_command(train, argv)


if __name__ == "__main__":
    main()
