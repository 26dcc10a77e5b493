"""The parts of one run, built to fit each other by ``experiment.build``."""

from typing import NamedTuple

from jaxpg.core.run_config import Member
from jaxpg.core.types import PolicyFunctions
from jaxpg.kernel.fleet import Fleet
from jaxpg.kernel.jax_iteration import WholeIterations
from jaxpg.kernel.rollout import Rollout
from jaxpg.kernel.task import Task
from jaxpg.learners.base import Learner
from jaxpg.policies.observations import Observation


class Experiment(NamedTuple):
    """The parts of one run."""

    observation: Observation
    policy: PolicyFunctions
    learner: Learner
    fleet: Fleet
    frame_skip: int
    """Emulator frames per agent step."""
    rollout_agent_steps: int
    """T, the largest number of agent steps that each lane plays in one iteration."""
    lane_groups: int
    """G, the number of groups of lanes; each group plays its own candidates."""
    task: Task
    """What the policy's inputs and actions mean, and which settings its scores depend on."""
    whole_iterations: WholeIterations | None = None
    """Plays and learns in one program, for one device and environments in JAX; None where that is not possible."""
    members: tuple[Member, ...] = ()
    """The members of a population of gradient learners, in the order of their lanes; empty where there is none."""
    acts: str = "sampled"
    """How actions are chosen: ``sampled``, ``greedy``, or ``random``, which takes all alike."""
    remarks: tuple[str, ...] = ()
    """Sentences for the user, said before the run begins."""

    @property
    def rollout(self) -> Rollout:
        """The single rollout. Fails with ValueError where there are several devices."""
        (rollout,) = self.fleet.rollouts
        return rollout
