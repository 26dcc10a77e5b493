"""The space of a search: which settings vary, and over which values."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jaxpg.config import Config, flatten, with_overrides
from jaxpg.core.errors import UserError, nearest
from jaxpg.core.strict_yaml import read_yaml
from jaxpg.core.validation import with_whole_numbers

FIXED = ("run.seed", "run.dir", "run.budget_agent_steps", "run.budget_seconds", "run.budget_episodes", "imports")
"""Settings that do not vary within a study."""
RANGE_KEYS = ("low", "high", "step", "log")
EXAMPLE = "optimizer.learning_rate=log:1e-4:1e-2, reinforce.epochs=1,2,3 or reinforce.td_lambda=0.8:1.0"


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    """Whether small numbers are as likely as large ones: the logarithm is drawn uniformly."""
    is_integer: bool = False


@dataclass(frozen=True)
class Choice:
    """Some values. A list or another value that is no text or number has its JSON text as label."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> dict[Any, Any]:
        """Each value by its label."""
        return {_label(value): value for value in self.values}


Space = dict[str, Range | Choice]


def space_from_words(words: Sequence[str], config: Config) -> Space:
    """Reads a space from words such as ``optimizer.learning_rate=log:1e-4:1e-2`` and ``reinforce.epochs=1,2,3``.

    A range is ``LOW:HIGH``, ``LOW:HIGH:STEP`` or ``log:LOW:HIGH``; choices are separated by commas.

    Raises:
      UserError: a word is malformed, a setting is unknown, or a value does not fit.
    """
    content: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not text:
            raise UserError(f"space: {word!r} is no setting with its values; write {EXAMPLE}")
        key = key.replace("-", "_")
        if key in content:
            raise UserError(f"space: {key} is given twice")
        content[key] = _range_of_text(key, text) if _is_range(text) else _choices_of_text(key, text)
    return space_from_mapping(content, config)


def space_from_file(path: Path, config: Config) -> Space:
    """Reads a space from a YAML file. Raises UserError as ``space_from_mapping`` does, with the name of the file."""
    content = read_yaml(path)
    try:
        return space_from_mapping(_plain(content), config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def space_from_mapping(content: Mapping[str, Any], config: Config) -> Space:
    """Makes a space from a list of choices or a mapping with ``low``, ``high``, ``step`` and ``log`` for each setting.

    Args:
      content: choices and ranges by setting, such as ``{"optimizer.learning_rate": {"low": 1e-4, "high": 1e-2}}``.
      config: the configuration in which the settings vary.

    Raises:
      UserError: there is nothing to vary, a setting is unknown, a range is empty, or a value does not fit.
    """
    if not content:
        raise UserError(f"space: nothing varies; give settings with their values, such as {EXAMPLE}")
    return {key: _dimension(key, values, config) for key, values in content.items()}


def overrides_of(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the settings from a trial's parameters, in which a list is its JSON text."""
    return {key: space[key].labels[x] if isinstance(space[key], Choice) else x for key, x in params.items()}  # type: ignore[union-attr]


def params_of(space: Space, config: Config) -> dict[str, Any] | None:
    """The configuration's own parameters, or None where it lies outside the space."""
    flat, params = with_whole_numbers(flatten(config)), {}
    for key, dimension in space.items():
        if key not in flat:
            return None
        value = json.loads(json.dumps(flat[key]))
        if isinstance(dimension, Choice):
            if _label(value) not in dimension.labels:
                return None
            params[key] = _label(value)
        else:
            if not dimension.low <= value <= dimension.high:
                return None
            if dimension.step and (value - dimension.low) % dimension.step:
                return None
            params[key] = value
    return params


def _dimension(key: str, values: Any, config: Config) -> Range | Choice:
    if key in FIXED:
        raise UserError(f"space: {key}: does not vary within a study; it has a flag of its own")
    if isinstance(values, list | tuple):
        return _choice(key, values, config)
    if isinstance(values, Mapping):
        return _range(key, values, config)
    raise UserError(f"space: {key}: give a list of values, or low and high, not {values!r}")


def _choice(key: str, values: Sequence[Any], config: Config) -> Choice:
    if not values:
        raise UserError(f"space: {key}: no value to choose from")
    for value in values:
        _check(key, value, config)
    plain = [with_whole_numbers(value) for value in values]
    return Choice(tuple({_label(value): value for value in plain}.values()))


def _range(key: str, values: Mapping[str, Any], config: Config) -> Range:
    for name in values:
        if name not in RANGE_KEYS:
            raise UserError(f"space: {key}: a range has no {name!r}{nearest(str(name), RANGE_KEYS)}")
    low, high, step = values.get("low"), values.get("high"), values.get("step")
    log = values.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"space: {key}: log is true or false, not {log!r}")
    for name, number in (("low", low), ("high", high), *((("step", step),) if step is not None else ())):
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise UserError(f"space: {key}: {name} is a number, not {number!r}")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    _check(key, low, config)
    _check(key, high, config)
    if low >= high:
        raise UserError(f"space: {key}: the range from {low:g} to {high:g} is empty; the lower end comes first")
    if log and low <= 0:
        raise UserError(f"space: {key}: a logarithmic range begins above 0, not at {low:g}")
    if step is not None and (log or not 0 < step <= high - low):
        reason = "a logarithmic range has none" if log else f"it is above 0 and at most {high - low:g}"
        raise UserError(f"space: {key}: step {step:g}: {reason}")
    now = flatten(config).get(key)
    is_integer = isinstance(now, int) and not isinstance(now, bool)
    if is_integer and step is not None and step != int(step):
        raise UserError(f"space: {key}: step {step:g}: the setting is a whole number")
    return Range(low, high, step, log, is_integer)


def _check(key: str, value: Any, config: Config) -> None:
    try:
        with_overrides(config, {key: value})
    except UserError as error:
        raise UserError(f"space: {error}") from error


def _label(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _is_range(text: str) -> bool:
    return ":" in text and not text.startswith(("[", "{"))


def _range_of_text(key: str, text: str) -> dict[str, Any]:
    parts = text.split(":")
    log = parts[0] == "log"
    numbers = parts[1:] if log else parts
    if len(numbers) not in ((2,) if log else (2, 3)):
        raise UserError(f"space: {key}: a range is LOW:HIGH, LOW:HIGH:STEP or log:LOW:HIGH, not {text!r}")
    try:
        found = dict(zip(("low", "high", "step"), (float(number) for number in numbers), strict=False))
    except ValueError as error:
        raise UserError(f"space: {key}: a range has numbers at its ends, not {text!r}") from error
    return {**with_whole_numbers(found), "log": log}


def _choices_of_text(key: str, text: str) -> list[Any]:
    try:
        return list(YAML(typ="safe", pure=True).load(io.StringIO(f"[{text}]")))
    except (YAMLError, ValueError) as error:
        raise UserError(f"space: {key}: {text!r} are no values separated by commas") from error


def _plain(content: Any) -> Any:
    """The content of a YAML file as plain Python values, which JSON can express."""
    try:
        return json.loads(json.dumps(content))
    except (TypeError, ValueError) as error:
        raise UserError(f"space: a value is no text, number, list or mapping: {error}") from error
