"""Prepares a process before it computes: memory, compiled code and precision."""

from types import ModuleType
from typing import Any

from jaxpg.machine.gpus import take_memory_as_needed
from jaxpg.machine.malloc import keep_freed_memory
from jaxpg.machine.xla import choose_fusions, keep_compiled_code, use_float32


def prepare_process(*, learns: bool = True) -> None:
    """Keeps freed memory and compiled code, and sets how XLA computes. Further calls do no harm.

    Args:
      learns: False for a policy that only plays. It takes a GPU's memory as it needs it, because a training may have
        taken the most.
    """
    if not learns:
        take_memory_as_needed()
    keep_freed_memory()
    keep_compiled_code()
    choose_fusions()
    use_float32()


class CallableModule(ModuleType):
    """A module that can be called; the call goes to the module's function of the same name.

    ``python -m jaxpg.train`` needs a module ``jaxpg.train``, and ``jaxpg.train(config)`` needs a function of that name.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*arguments, **options)
