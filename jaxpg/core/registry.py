"""Things of one kind by name, to which a user adds his own with a decorator."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from jaxpg.core.errors import UserError, check_name

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """Entries by name, in the order in which they were added.

    >>> shapes = Registry[int]("shape.name", {"triangle": 3})
    >>> shapes.register("square")(4)
    4
    >>> list(shapes)
    ['triangle', 'square']

    Args:
      key: the configuration's field that chooses one, for error sentences.
      entries: what is there from the start.
      defined_by: gives the function or class that stands for an entry, where the entry is neither.
    """

    def __init__(
        self, key: str, entries: Mapping[str, Entry], defined_by: Callable[[Entry], object] = lambda entry: entry
    ):
        self._key = key
        self._defined_by = defined_by
        self._entries = dict(entries)

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Gives a decorator that adds what it decorates under ``name``, and returns it as it is.

        Raises:
          UserError: the decorator is used with a name that something else has.
        """

        def add(entry: Entry) -> Entry:
            known = self._entries.get(name)
            if known is not None and not _is_reloaded(self._defined_by(known), self._defined_by(entry)):
                raise UserError(f"{self._key}: the name {name!r} is taken; register yours under another")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> Entry:
        """The entry called ``name``; UserError with the nearest name where there is none."""
        check_name(self._key, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _is_reloaded(known: object, entry: object) -> bool:
    """Whether a file that was imported twice, as in a notebook, defines the same thing again."""
    return getattr(known, "__qualname__", "") == getattr(entry, "__qualname__", None) and not str(
        getattr(known, "__module__", "jaxpg.")
    ).startswith("jaxpg.")
