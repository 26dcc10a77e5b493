"""One training run: the training loop, the files in the run folder, the checkpoints, and how the run ends."""

from jaxpg.run.writers import WRITERS

register_writer = WRITERS.register
"""Decorator ``register_writer(name)`` for a function ``(run folder, agent steps so far) -> Writer``."""
