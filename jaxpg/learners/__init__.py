"""Learners: what happened in, the next population out. They see Experience, never an emulator."""
