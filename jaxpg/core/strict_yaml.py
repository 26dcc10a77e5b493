"""Reads YAML that may come from strangers: builds no objects, limits size and depth, and keeps each key's line."""

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
from jaxpg.core.foreign_files import open_regular

_STARTS = (BlockMappingStartToken, BlockSequenceStartToken, FlowMappingStartToken, FlowSequenceStartToken)
_ENDS = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)
MAX_DEPTH = 20
"""Deepest nesting of lists and mappings. A real recipe has three levels."""
MAX_RECIPE_BYTES = 100_000
"""Largest recipe. The YAML reader takes seconds for this size, and a minute for a megabyte."""


def read_yaml(path: Path) -> Any:
    """Reads the mapping in a YAML file. The result remembers the line and column of each key.

    Raises:
      UserError: the file cannot be read, is too large, is nested too deeply, has aliases, or is not a mapping.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
        if len(content) > MAX_RECIPE_BYTES:
            raise UserError(f"{path}: a recipe may have at most {MAX_RECIPE_BYTES} bytes")
        text = content.decode("utf-8")
    except OSError as error:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        raise UserError(f"{path}: cannot read the recipe: {error.strerror}{near}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the recipe is not UTF-8 text (byte {error.start})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # long warnings about anchors and the number formats of YAML 1.1
            _refuse_aliases_and_depth(path, text)
            data: Any = YAML(typ="rt").load(text)  # round-trip mode builds no objects and knows line numbers
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: not YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}") from error
    except (AttributeError, LookupError, TypeError) as error:  # from ruamel: '!!bool x', or a mapping as a key
        raise UserError(f"{path}: not YAML: a key or a tagged value is of a wrong kind: {error}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        kind = "list" if isinstance(data, list) else "single value"
        raise UserError(f"{path}: a recipe is a mapping of sections such as 'env:', not a {kind}")
    return data


def _refuse_aliases_and_depth(path: Path, text: str) -> None:
    """Raises UserError for aliases and for deep nesting, before the YAML reader loads the text.

    A few lines of aliases of aliases would expand to more than memory holds. The reader's time grows with the square
    of the depth.
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
    """Line and column of the innermost key whose place is known, as ``:3:5``. Empty if no place is known."""
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
    """Path of keys to the first value or mapping that JSON cannot express, such as a date. None if there is none."""
    if isinstance(data, dict) and not all(isinstance(key, str | int | float | None) for key in data):
        return ()
    if not isinstance(data, dict | list | tuple):
        return None if isinstance(data, str | int | float | None) else ()
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        inner = odd_place(value)
        if inner is not None:
            return (key, *inner)
    return None
