"""One training run: its loop, its files, its checkpoints, and its end."""

from jaxpg.run.writers import WRITERS

register_writer = WRITERS.register
"""Decorator ``register_writer(name)`` for ``(run folder, agent steps so far) -> Writer``."""
