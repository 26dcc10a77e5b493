"""Registries: things of one kind by name. Users add their own with a decorator."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from jaxpg.core.errors import YOUR_OWN, UserError, check_name
from jaxpg.core.user_modules import imported

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """Entries by name, in the order in which they were added.

    >>> shapes = Registry[int]("shape.name", {"triangle": 3})
    >>> shapes.register("square")(4)
    4
    >>> list(shapes)
    ['triangle', 'square']

    Args:
      key: the config field that chooses an entry. Error sentences name this field.
      entries: the entries that come with jaxpg.
      defined_by: maps an entry to the function or class that defines the entry. The default is the entry itself.
    """

    def __init__(
        self, key: str, entries: Mapping[str, Entry], defined_by: Callable[[Entry], object] = lambda entry: entry
    ):
        self._key = key
        self._defined_by = defined_by
        self._entries = dict(entries)

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator that adds the decorated object under ``name`` and returns the object unchanged.

        Raises:
          UserError: ``name`` is no text, as where the decorator stands without parentheses, or another entry already
            has this name. The decorator raises the second error when it is applied.
        """
        if not isinstance(name, str):
            raise UserError(f'{self._key}: register yours under a name, as in @register("mine"), not {name!r}')

        def add(entry: Entry) -> Entry:
            known = self._entries.get(name)
            if known is not None and not _is_reloaded(self._defined_by(known), self._defined_by(entry)):
                raise UserError(f"{self._key}: the name {name!r} is taken; register yours under another")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> Entry:
        """The entry called ``name``. Raises UserError with the nearest name if there is no such entry."""
        own = f"{', '.join(imported())} registers no such name" if imported() else YOUR_OWN
        check_name(self._key, name, self._entries, own)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _is_reloaded(known: object, entry: object) -> bool:
    """Whether ``entry`` is the same definition again, because a file was imported twice (as in a notebook)."""
    return getattr(known, "__qualname__", "") == getattr(entry, "__qualname__", None) and not str(
        getattr(known, "__module__", "jaxpg.")
    ).startswith("jaxpg.")
