"""YAML from strangers: read without building objects, within bounds, and with the place of every key."""

import warnings
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import (
    AliasToken,
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
)

from jaxpg.core.errors import UserError, nearest

_STARTS = (BlockMappingStartToken, BlockSequenceStartToken, FlowMappingStartToken, FlowSequenceStartToken)
_ENDS = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)
MAX_DEPTH = 20
"""Lists and mappings in one another; a recipe has three."""
MAX_RECIPE_BYTES = 100_000
"""The reader takes seconds for so much, and a minute for a megabyte."""


def read_yaml(path: Path) -> Any:
    """The mapping in a YAML file, which knows the lines of its keys.

    Raises:
      UserError: it cannot be read, is too large or too deep, has aliases, or is no mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
        if len(content) > MAX_RECIPE_BYTES:
            raise UserError(f"{path}: a recipe of more than {MAX_RECIPE_BYTES} bytes is no recipe")
        text = content.decode("utf-8")
    except OSError as error:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        raise UserError(f"{path}: cannot read the recipe: {error.strerror}{near}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the recipe is not UTF-8 text (byte {error.start})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # paragraphs about anchors and the numbers of YAML 1.1
            _refuse_aliases_and_depth(path, text)
            data: Any = YAML(typ="rt").load(text)  # round-trip mode builds no objects and knows line numbers
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: not YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}") from error
    except (AttributeError, LookupError, TypeError) as error:  # of ruamel, at '!!bool x' and at mappings as keys
        raise UserError(f"{path}: not YAML: a key or a tagged value is of a wrong kind: {error}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        kind = "list" if isinstance(data, list) else "single value"
        raise UserError(f"{path}: a recipe is a mapping of sections such as 'env:', not a {kind}")
    return data


def _refuse_aliases_and_depth(path: Path, text: str) -> None:
    """A few lines of aliases of aliases would expand to more than fits into memory, and the reader's time grows with
    the square of the depth.
    """
    depth = 0
    for token in YAML(typ="rt").scan(text):
        mark = token.start_mark
        depth += isinstance(token, _STARTS) - isinstance(token, _ENDS)
        if depth > MAX_DEPTH:
            raise UserError(
                f"{path}:{mark.line + 1}:{mark.column + 1}: nested too deep; a recipe is sections of settings"
            )
        if isinstance(token, AliasToken):
            raise UserError(
                f"{path}:{mark.line + 1}:{mark.column + 1}: a recipe has no aliases; write *{token.value} out"
            )


def position(data: Any, keys: tuple[int | str, ...]) -> str:
    """Line and column of the innermost key that has one, as ``:3:5``."""
    found = ""
    for key in keys:
        try:
            marks = data.lc  # ruamel's record of lines and columns
            line, column = marks.key(key) if isinstance(key, str) else marks.item(key)
            data = data[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
        found = f":{line + 1}:{column + 1}"
    return found


def odd_place(data: Any) -> tuple[Any, ...] | None:
    """The keys to the first value that JSON has no word for, or to the mapping with such a key; None without one."""
    if isinstance(data, dict) and not all(isinstance(key, str | int | float | None) for key in data):
        return ()
    if not isinstance(data, dict | list):
        return None if isinstance(data, str | int | float | None) else ()
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        inner = odd_place(value)
        if inner is not None:
            return (key, *inner)
    return None
