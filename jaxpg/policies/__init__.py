"""Policies: networks, the observations they see, and how convolutions are computed."""

from jaxpg.policies.networks import POLICIES
from jaxpg.policies.observations import OBSERVATIONS

register_policy = POLICIES.register
"""Decorator ``register_policy(name)`` for a Flax module class. See ``jaxpg.policies.networks.make_policy``."""
register_observation = OBSERVATIONS.register
"""Decorator ``register_observation(name)`` for ``(ObservationConfig) -> Observation``."""
