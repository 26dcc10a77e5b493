"""Learners: each takes the experience of a rollout and gives the next population. A learner never sees an emulator."""

from jaxpg.learners.registry import LEARNERS, register_learner

__all__ = ["LEARNERS", "register_learner"]
