"""What a process settles before it computes: memory, compiled code, precision."""

from types import ModuleType
from typing import Any

from jaxpg.machine.malloc import keep_freed_memory
from jaxpg.machine.xla import keep_compiled_code, use_fast_convolutions, use_float32


def prepare_process() -> None:
    """Keeps freed memory and compiled code, and settles how XLA computes; does no harm when it is called again."""
    keep_freed_memory()
    keep_compiled_code()
    use_fast_convolutions()
    use_float32()


class CallableModule(ModuleType):
    """A module that is called as its function of the same name, so that ``jaxpg.train`` is both.

    ``python -m jaxpg.train`` asks for a module of that name, and ``jaxpg.train(config)`` for a function.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*arguments, **options)
