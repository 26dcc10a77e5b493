"""What a command does before it imports JAX. The import takes a second, and JAX reads its environment during it."""

import os
import signal
import sys

from jaxpg.machine.console import say, speak
from jaxpg.machine.signals import end_at_once

TRUE = ("y", "yes", "t", "true", "on", "1")
"""The words that JAX reads as true, in lower case."""
PARENT = "JAXPG_PARENT"
"""Environment variable with the process id of the trainer that started this process. This process ends when
the trainer ends."""


def begin_command() -> None:
    """Makes Ctrl-C end the process at once, and checks the variables that JAX reads during its import.

    During an import, Python's own KeyboardInterrupt would print a traceback. Some imports even lose the interrupt:
    Python prints an exception in a callback, such as that of an import lock, and then forgets the exception.
    """
    speak()
    signal.signal(signal.SIGINT, end_at_once)
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        from jaxpg.machine.parent import end_with_parent

        end_with_parent(int(parent))
    _settle_variables()


def _settle_variables() -> None:
    """Imports JAX if one of its variables is set, so that a refused value is one sentence instead of a traceback."""
    if os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE:
        os.environ["JAX_ENABLE_X64"] = "0"
        say("jaxpg: computes in float32 and ignores JAX_ENABLE_X64", error=True)
    if not any(name.startswith("JAX_") for name in os.environ):
        return
    try:
        import jax  # noqa: F401
    except (ValueError, TypeError) as error:
        say(f"jaxpg: JAX refuses a variable of the environment: {error}", error=True)
        sys.exit(2)
