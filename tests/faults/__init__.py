"""Faults against real trainings: kills, signals, damaged checkpoints, full disks; ``python -m tests.faults``."""
