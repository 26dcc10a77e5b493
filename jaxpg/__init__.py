"""Policy gradients, random search and evolution on Atari through one rollout kernel."""

__version__ = "0.1.0"
