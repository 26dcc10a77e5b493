"""The machine and this process: XLA's settings, memory, files, signals, and the terminal."""
