"""Learners: what happened in, the next population out. They see Experience, never an emulator."""

from jaxpg.learners.registry import LEARNERS, register_learner

__all__ = ["LEARNERS", "register_learner"]
