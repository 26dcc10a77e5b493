"""Types of flags that tyro would read otherwise: whole numbers such as 1e6, and JSON objects."""

import json
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxpg.core.run_config import Sweep
from jaxpg.core.validation import whole_number

FLAG_TYPES = ConstructorRegistry()
"""How tyro reads the values of these flags."""


@FLAG_TYPES.primitive_rule
def _whole_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """Makes integer flags accept whole numbers in other notations, such as 1e6."""
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


@FLAG_TYPES.primitive_rule
def _json_objects(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
    """Makes ``env.options`` and ``run.sweep`` one flag with a JSON object each."""
    if info.type not in (dict[str, Any], Sweep):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: _json_object(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f'{text!r} is no JSON object such as {{"map_name": "8x8"}}')
    return value
