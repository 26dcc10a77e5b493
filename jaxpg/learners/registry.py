"""The registry of all kinds of learners, to which users add their own."""

from collections.abc import Callable
from typing import Any

from jaxpg.core.registry import Registry
from jaxpg.learners.base import Ingredients, Learner, LearnerKind, Section
from jaxpg.learners.evolution import EVOLUTION
from jaxpg.learners.random_search import RANDOM_SEARCH
from jaxpg.learners.reinforce import REINFORCE

LEARNERS: Registry[LearnerKind[Any]] = Registry(
    "run.learner",
    {"reinforce": REINFORCE, "random_search": RANDOM_SEARCH, "evolution": EVOLUTION},
    defined_by=lambda kind: kind.make,
)
"""Kinds of learners by name. The name is also that of the learner's section in the configuration."""

Make = Callable[[Ingredients[Section]], Learner]


def register_learner(name: str, config: type[Section], **facts: Any) -> Callable[[Make[Section]], Make[Section]]:
    """Returns a decorator for a function that makes a learner; the decorator registers it as a kind of learner.

    Args:
      name: value of ``run.learner`` that chooses the learner, and name of its section in the configuration.
      config: the dataclass of the learner's settings; every field has a default.
      facts: other fields of ``LearnerKind``.

    Raises:
      UserError: the name is taken, or ``config`` is not a dataclass whose fields all have defaults.
    """

    def add(make: Make[Section]) -> Make[Section]:
        LEARNERS.register(name)(LearnerKind(config=config, make=make, **facts))
        return make

    return add
