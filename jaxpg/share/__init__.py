"""Takes a trained policy out of jaxpg: exports its function, and pushes, pulls and packs whole runs."""
