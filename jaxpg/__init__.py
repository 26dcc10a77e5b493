"""Policy gradients, random search and evolution on Atari through one rollout kernel."""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and any(word.removeprefix("-m").split(".")[0] == "jaxpg" for word in sys.orig_argv):
    # `python -m jaxpg...`, before anything that takes time is imported; never where jaxpg is a library
    from jaxpg.machine.beginning import begin_command

    begin_command()
