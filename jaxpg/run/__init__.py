"""One training run: its loop, its files, its checkpoints, and its end."""
