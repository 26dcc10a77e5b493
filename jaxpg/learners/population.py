"""What the settings say of a population: who its members are, and what differs between them."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxpg.core.errors import UserError
from jaxpg.core.run_config import Member, RunConfig, members_of
from jaxpg.learners.base import Learner, LearnerKind, Metrics
from jaxpg.learners.registry import LEARNERS
from jaxpg.machine.memory_estimate import Part


def members_of_population(kind: LearnerKind[Any], run: RunConfig, num_devices: int) -> tuple[Member, ...]:
    """The members of the population that the settings ask for; empty for a single training.

    Raises:
      UserError: a rule for populations is broken.
    """
    members = members_of(run)
    key = "run.sweep" if run.sweep else "run.population"
    if not run.sweep and len(members) == 1:
        return ()
    if not kind.sweepable:
        able = ", ".join(name for name, other in LEARNERS.items() if other.sweepable)
        raise UserError(f"{key}: is for gradient learners ({able}), and {run.learner} has candidates of its own")
    if odd := [name for name in run.sweep if name not in kind.sweepable]:
        raise UserError(
            f"run.sweep: {odd[0]} cannot differ between members of one program; those that can are "
            f"{', '.join(kind.sweepable)}; start a run for each value of another"
        )
    if len(members) < 2:
        raise UserError(f"run.sweep: a population has two members or more, not {len(members)}; give more numbers")
    if num_devices > 1:
        raise UserError(f"{key}: members train side by side on one device, not {num_devices}")
    if members[-1].seed >= 2**31:
        raise UserError(f"run.seed: the last member has the seed {members[-1].seed}, and the largest is {2**31 - 1}")
    return tuple(members)


def scheduled_of_each(
    members: Sequence[Member], learner_of: Callable[[Member], Learner]
) -> list[Callable[[float], Metrics]]:
    """``Learner.scheduled`` of each member, with its other numbers from ``run.sweep``."""

    def scheduled_of(member: Member) -> Callable[[float], Metrics]:
        scheduled = learner_of(member).scheduled
        fixed = {key.split(".")[-1]: number for key, number in member.settings.items()}
        return lambda progress: fixed | scheduled(progress)

    known = {tuple(member.settings.values()): member for member in members}
    made = {settings: scheduled_of(member) for settings, member in known.items()}
    return [made[tuple(member.settings.values())] for member in members]


def memory_of_members(parts: Sequence[Part], number: int) -> list[Part]:
    """The memory of all members, from that of one."""
    return [
        part._replace(
            key="run.population",
            what=f"{part.what}, for each of {number} members",
            num_bytes=number * part.num_bytes,
        )
        for part in parts
    ]
