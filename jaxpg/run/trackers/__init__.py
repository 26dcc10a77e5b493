"""Trackers: experiment trackers that show a run elsewhere, each fed from the run folder by a process of its own."""
