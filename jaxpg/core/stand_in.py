"""Keeps a library from importing what this process does not need."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def stand_in(name: str, module: ModuleType | None) -> Iterator[None]:
    """Puts a module in the place of another while a library is imported.

    Args:
      name: the module that the library would import. If it has been imported already, it stays.
      module: what the library gets; None makes the import raise ModuleNotFoundError.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]  # Python documents None
    try:
        yield
    finally:
        del sys.modules[name]
