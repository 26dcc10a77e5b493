"""Number types with a range. The config dataclasses use these types, and pydantic checks them."""

from contextlib import suppress
from pathlib import PurePath
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""The ``__pydantic_config__`` of every config dataclass. Unknown keys and wrong types are errors."""

PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**31 - 1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name has letters, digits and signs, and no control characters")
    return name


Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
"""A name, which may come from a stranger and is shown on terminals and pages."""
LARGEST = 1e100
"""Largest number that is taken for one. Sums and squares of much larger ones are infinite."""
Measured = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
"""A number that was measured in float32 or by a clock. Sums and squares of it are finite."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A whole number that is a float, too."""
Number = Annotated[int, Field(ge=-(2**53), le=2**53)] | Measured
"""A measured number, which may be a whole one."""
EXACT = 2**53
"""Largest integer up to which a float represents every integer exactly."""


def whole_number(text: str) -> int:
    """Reads an integer such as ``640``, ``3_500_000``, ``1e6`` or ``2.5e6``.

    Raises:
      ValueError: the text is not a number, or has a fraction.

    >>> whole_number("2.5e6"), whole_number("3_500_000")
    (2500000, 3500000)
    """
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        number = float(text)
        if number.is_integer() and abs(number) <= EXACT:
            return int(number)
    raise ValueError(f"{text!r} is no whole number")


def with_whole_numbers(data: Any) -> Any:
    """Converts floats without a fraction (YAML reads ``1e6`` as a float) into integers, in nested lists and mappings.

    A setting that is a float accepts integers, so the conversion does no harm there. ``options`` are handed on to other
    libraries, which may not. NumPy's numbers and paths, which a Python program may give, become numbers and texts.
    """
    if isinstance(data, np.generic | np.ndarray):
        return with_whole_numbers(data.tolist())
    if isinstance(data, PurePath):
        return str(data)
    if isinstance(data, dict):
        return {name: value if name == "options" else with_whole_numbers(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [with_whole_numbers(value) for value in data]
    return int(data) if isinstance(data, float) and data.is_integer() and abs(data) <= EXACT else data


def is_number(x: object) -> bool:
    """Whether an object that a stranger may have written is a number of which sums and squares are finite."""
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= LARGEST
