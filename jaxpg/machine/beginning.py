"""What a command does before JAX is imported, which takes a second and reads its environment then."""

import os
import signal
import sys

from jaxpg.machine.console import say, speak
from jaxpg.machine.signals import end_at_once

TRUE = ("y", "yes", "t", "true", "on", "1")
"""What JAX takes for true, in lower case."""
PARENT = "JAXPG_PARENT"
"""Environment variable with the process id of a trainer that started this process and whose end ends it."""


def begin_command() -> None:
    """Makes Ctrl-C end the process from now on, and settles the variables that JAX reads when it is imported.

    Python's own KeyboardInterrupt would be a traceback out of an import, and some imports lose it: an exception in a
    callback, such as that of an import lock, is printed and forgotten.
    """
    speak()
    signal.signal(signal.SIGINT, end_at_once)
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        from jaxpg.machine.parent import end_with_parent

        end_with_parent(int(parent))
    _settle_variables()


def _settle_variables() -> None:
    """JAX is imported here where one of its variables is set, because a value that it refuses is a traceback."""
    if os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE:
        os.environ["JAX_ENABLE_X64"] = "0"
        say("jaxpg: computes in float32 and leaves JAX_ENABLE_X64 aside", error=True)
    if not any(name.startswith("JAX_") for name in os.environ):
        return
    try:
        import jax  # noqa: F401
    except (ValueError, TypeError) as error:
        say(f"jaxpg: JAX refuses a variable of the environment: {error}", error=True)
        sys.exit(2)
