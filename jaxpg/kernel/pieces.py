"""The pieces of one run, which fit each other."""

from typing import NamedTuple

from jaxpg.core.types import PolicyFunctions
from jaxpg.kernel.fleet import Fleet
from jaxpg.kernel.rollout import Rollout
from jaxpg.kernel.task import Task
from jaxpg.learners.base import Learner
from jaxpg.policies.observations import Observation


class Experiment(NamedTuple):
    """The pieces of one run."""

    observation: Observation
    policy: PolicyFunctions
    learner: Learner
    fleet: Fleet
    frame_skip: int
    """Emulator frames per agent step."""
    rollout_agent_steps: int
    """T, the most agent steps in every lane in one iteration."""
    lane_groups: int
    """Groups of lanes that each have candidates of their own (G)."""
    task: Task
    """What inputs and actions mean, and what scores depend on."""
    remarks: tuple[str, ...] = ()
    """What a user should know before the work begins, in sentences."""

    @property
    def rollout(self) -> Rollout:
        """Of the only device, where there is one."""
        (rollout,) = self.fleet.rollouts
        return rollout
