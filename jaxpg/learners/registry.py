"""Every kind of learner by its name, to which a user adds his own."""

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
"""A learner's name is also that of its section in the configuration."""

Make = Callable[[Ingredients[Section]], Learner]


def register_learner(name: str, config: type[Section], **facts: Any) -> Callable[[Make[Section]], Make[Section]]:
    """Gives a decorator for a function that makes a learner, which then is a kind of its own.

    Args:
      name: value of ``run.learner``, and name of its section.
      config: the dataclass of its settings; every field has a default.
      facts: other fields of ``LearnerKind``.

    Raises:
      UserError: something else has the name, or the settings do not do.
    """

    def add(make: Make[Section]) -> Make[Section]:
        LEARNERS.register(name)(LearnerKind(config=config, make=make, **facts))
        return make

    return add
