"""Divides the log of a population into the logs of its members, which a report shows like runs of their own."""

from dataclasses import replace

from jaxpg.config import Config, with_overrides
from jaxpg.core.run_config import members_of
from jaxpg.run.run_progress import RunProgress
from jaxpg.run.writers import Record
from jaxpg.viewing.run_log import RunLog, Video

SHARED = ("iteration", "agent_steps", "frames", "wall_seconds")
"""Numbers of an iteration that are the same for each member."""


def config_of(config: Config, member: int) -> Config:
    """The configuration of a training alone that does what a member of the population does."""
    of_member = members_of(config.run)[member]
    alone = {"run.seed": of_member.seed, "run.population": 0, "run.sweep": {}}
    return with_overrides(config, alone | of_member.settings)


def by_member(log: RunLog) -> list[RunLog]:
    """The log of each member of a population; where there is none, only the log itself.

    Each member gets its share of the time, because all of them train in one program.
    """
    number = len(members_of(log.config.run))
    return [log] if number == 1 else [_of_member(log, member, number) for member in range(number)]


def _of_member(log: RunLog, member: int, number: int) -> RunLog:
    seed, settings = members_of(log.config.run)[member]
    own = [f"{key.split('.')[-1]} {value:g}" for key, value in settings.items()]
    if log.config.run.population > 1:
        own.append(f"seed {seed}")
    return log._replace(
        name=f"{log.name}, member {member}: {', '.join(own)}",
        config=config_of(log.config, member),
        records=[_record(record, member, number) for record in log.records],
        games=[game for game in log.games if game.member == member],
        checkpoints=[_progress(one, member) for one in log.checkpoints if member < len(one.members)],
        evaluations=[one for one in log.evaluations if one.member == member],
        videos=[video for video in log.videos if _member_of(video) == member],
        remarks=log.remarks if member == 0 else [],
    )


def _record(record: Record, member: int, number: int) -> Record:
    own: Record = {name: record[name] for name in SHARED if name in record}
    speed = record["agent_steps_per_second"]
    own["agent_steps_per_second"] = None if speed is None else speed / number
    for name, value in record.items():
        what, _, whose = name.partition("/")
        if whose == str(member):
            own[what] = value
        elif name.endswith("_seconds") and name not in SHARED and value is not None:
            own[name] = value / number
    return own


def _progress(progress: RunProgress, member: int) -> RunProgress:
    own = progress.members[member]
    return replace(
        progress,
        episodes=own.episodes,
        metrics=own.metrics,
        last_returns=own.last_returns,
        last_lengths=own.last_lengths,
        members=[],
    )


def _member_of(video: Video) -> int:
    """Whose video it is; a grid shows several checkpoints and counts for the first member."""
    member = (video.trace or {}).get("member", 0)
    return member if isinstance(member, int) else 0
