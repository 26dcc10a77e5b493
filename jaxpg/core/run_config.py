"""The settings of a run as a whole, and the members of the population that they ask for."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import Field

from jaxpg.core.errors import UserError
from jaxpg.core.validation import STRICT, Name, NonNegativeFloat, NonNegativeInt

MOST_MEMBERS = 1024
Sweep = dict[str, tuple[float, ...]]
"""Numbers by the key of the setting that they are for."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run's folder, learner and seed, and when the run ends."""

    __pydantic_config__ = STRICT

    dir: str = ""
    """Run folder; empty for a new folder under runs/."""
    learner: Name = "reinforce"
    """The learner: reinforce, random_search, evolution, or one that you registered. The section of that name holds the
    learner's settings."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Seed of all randomness. A run is a function of its configuration and this number."""
    budget_agent_steps: Annotated[int, Field(ge=1, le=2**53)] = 2_500_000
    """Agent steps over all lanes after which the run ends, with the iteration that reaches them."""
    schedule_agent_steps: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Agent steps that the schedules of learning rate and entropy bonus span. 0 stands for the budget with which the
    run begins; config.yaml stores that number, so that a larger budget on resume does not stretch the schedules. After
    that many agent steps the run continues with the schedules' final values."""
    budget_episodes: NonNegativeInt = 0
    """Games over all lanes after which the run ends; 0 for no limit."""
    budget_seconds: NonNegativeFloat = 0.0
    """Seconds of training after which the run ends; 0 for no limit."""
    target_return: float | None = None
    """Mean return of the last 100 games at which the run ends early."""
    lane_groups: NonNegativeInt = 0
    """Groups of lanes in search and evolution, each of which plays its own candidates; 0 for one group per device. The
    games stay the same for every number of devices that divides the number of groups."""
    writers: tuple[Name, ...] = ("tensorboard",)
    """Further outputs for metrics and episodes, besides metrics.jsonl and episodes.csv: tensorboard, wandb, mlflow,
    trackio, or a writer of your own."""
    record_every: NonNegativeInt = 0
    """Iterations between two recorded games; 0 records nothing. A recording keeps a checkpoint for good and puts a
    video into videos/; a process of the lowest priority makes the video while the training goes on."""
    population: Annotated[int, Field(ge=0, le=MOST_MEMBERS)] = 0
    """Members of a population: so many trainings of this recipe side by side in one program, with the seeds run.seed,
    run.seed + 1, and so on. 0 or 1 trains one. Needs reinforce and an environment in JAX. Budgets and schedules are
    those of each member."""
    sweep: Sweep = field(default_factory=dict)
    """Numbers for some settings, such as {optimizer.learning_rate: [1.0e-4, 1.0e-3]}: the population has a member for
    each combination, times the seeds of run.population. On the command line as JSON:
    '{"optimizer.learning_rate": [1e-4, 1e-3]}'."""


class Member(NamedTuple):
    """What a member of a population has of its own."""

    seed: int
    settings: dict[str, float]
    """Its numbers for the settings of ``run.sweep``, by key."""


def members_of(run: RunConfig) -> list[Member]:
    """The members of a run's population, in the order of their lanes; a single one where there is no population.

    Raises:
      UserError: they are too many.
    """
    number = math.prod(len(numbers) for numbers in run.sweep.values()) * max(run.population, 1)
    if number > MOST_MEMBERS:
        raise UserError(f"run.sweep: its combinations and run.population make {number} members; {MOST_MEMBERS} at most")
    combinations = itertools.product(*run.sweep.values())
    settings = [dict(zip(run.sweep, numbers, strict=True)) for numbers in combinations]
    return [Member(run.seed + number, dict(own)) for own in settings for number in range(max(run.population, 1))]
