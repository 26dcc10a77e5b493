"""The configuration of a run: nested frozen dataclasses, read from strict YAML and written as YAML.

A recipe overrides the defaults, and the command line overrides the recipe.
"""

import dataclasses
import io
import json
import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from jaxpg.core.errors import UserError, nearest, no_run
from jaxpg.core.run_config import RunConfig
from jaxpg.core.strict_yaml import odd_place, position, read_yaml
from jaxpg.core.user_modules import HASHES, NOBODY, Trust, import_trusted, resolved
from jaxpg.core.validation import STRICT, NonNegativeFloat, NonNegativeInt, PositiveInt, with_whole_numbers
from jaxpg.envs.config import EnvConfig
from jaxpg.learners.evolution import EvolutionConfig
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.random_search import RandomSearchConfig
from jaxpg.learners.registry import LEARNERS
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the run is saved. A save changes nothing: games go on, and a resumed run continues to the bit."""

    __pydantic_config__ = STRICT

    every_seconds: NonNegativeFloat = 60.0
    """Seconds between two saves; 0 for no saves by time."""
    every_iterations: NonNegativeInt = 0
    """Iterations between two saves; 0 for no saves by iteration."""
    keep_every: NonNegativeInt = 0
    """Saves whose iteration is a multiple of this are kept for good; 0 keeps only the newest saves and the best one."""
    keep_newest: PositiveInt = 2
    """How many of the newest saves are kept. With only one, a damaged save leaves nothing to fall back on."""
    segment_agent_steps: NonNegativeInt = 0
    """Agent steps in each lane after which all lanes begin new games, as soon as each lane's first game of the segment
    is over. A resumed run has about this many agent steps to play again. 0 for the largest of three: a minute's agent
    steps at 4,000 a second over all lanes, a tenth of the run so far, and 4 games (32 in search and evolution, where
    the end of a round also ends a segment)."""
    replay: bool = True
    """Whether a resumed run plays the games of its segment again, up to the save. Otherwise the resumed run begins new
    games at once and from then on differs from the uninterrupted run."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of a run. ``config_type`` gives the subclass with a section for every registered learner."""

    __pydantic_config__ = STRICT

    imports: tuple[str, ...] = ()
    """Modules (mine) and files (./mine.py) to import first, because they register a policy, an observation, an
    environment, a learner or a writer. Imports that a recipe or a run folder names need --trust-imports, or others in
    their place on the command line."""
    run: RunConfig = field(default_factory=RunConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reinforce: ReinforceConfig = field(default_factory=ReinforceConfig)
    random_search: RandomSearchConfig = field(default_factory=RandomSearchConfig)
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def config_type() -> type[Config]:
    """Returns ``Config``, or a subclass with one more section for each learner that a user has registered.

    Raises:
      UserError: a learner's name cannot be the name of a section.
    """
    kinds = {name: kind.config for name, kind in LEARNERS.items()}
    sections: dict[str, Any] = {section.name: section.type for section in dataclasses.fields(Config)}
    for name, kind in kinds.items():
        if (
            not name.isidentifier()
            or keyword.iskeyword(name)
            or name in (HISTORY, HASHES)
            or sections.get(name, kind) != kind
        ):
            raise UserError(
                f"run.learner: {name!r} cannot be a learner's name, which is also the name of its section; "
                "use letters, digits and _, and not the name of another section"
            )
    return _with_sections(tuple((name, kind) for name, kind in kinds.items() if name not in sections))


@lru_cache
def _with_sections(sections: tuple[tuple[str, type], ...]) -> type[Config]:
    """Makes the subclass of ``Config`` with these sections, each a name and a dataclass; caches it."""
    if not sections:
        return Config
    fields = [(name, kind, field(default_factory=kind)) for name, kind in sections]
    return dataclasses.make_dataclass("Config", fields, bases=(Config,), frozen=True, kw_only=True)


def default_config() -> Config:
    """The configuration with the default of every setting."""
    return config_type()()


def own_section(config: Config) -> Any:
    """The settings of the run's learner.

    Raises:
      UserError: the learner is not registered, or was registered after the configuration was made.
    """
    name = config.run.learner
    if name in LEARNERS and not hasattr(config, name):
        raise UserError(
            f"run.learner: {name} was registered after this configuration was made; register it first, and make the "
            "configuration with load_recipe or config_type"
        )
    LEARNERS[name]
    return getattr(config, name)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that was changed when the run was resumed."""

    __pydantic_config__ = STRICT

    agent_steps: Annotated[int, Field(ge=0, le=2**53)]
    """The agent steps of the run when it was resumed."""
    setting: str
    """The key, such as ``run.budget_agent_steps``."""
    before: Any
    after: Any


RECIPES = Path(__file__).parent / "recipes"
"""The recipes that come with the package."""

HISTORY = "history"
"""The section of a ``config.yaml`` that lists changed settings. It is no section of ``Config``, and neither is
``HASHES``."""
_HISTORY = TypeAdapter(list[Change])


def load_recipe(path: Path, trust: Trust = NOBODY) -> Config:
    """Reads a YAML recipe strictly: errors for unknown keys, wrong types and wrong ranges name line and column.

    The recipe's imports run before its other keys are checked.

    Args:
      path: the file.
      trust: which of the recipe's imports may run.

    Raises:
      UserError: there is no such file, the file is not YAML or not a configuration, or its imports are not trusted.
    """
    data = _read(path)
    imports = data.get("imports", [])
    if isinstance(imports, list) and all(isinstance(name, str) for name in imports):
        data["imports"] = list(import_trusted(imports, str(path), trust))
    return _validate(data, str(path))


def load_imported(path: Path) -> Config:
    """Reads a ``config.yaml`` as ``load_recipe`` does, but imports nothing, because all is imported already."""
    return _validate(_read(path), str(path))


def _read(path: Path) -> Any:
    """Reads the sections of ``Config`` from a file, with the absolute paths of imported files."""
    data = read_yaml(path)
    _read_history(path, data)
    _read_hashes(path, data)
    sections = {section.name for section in dataclasses.fields(Config)} | set(LEARNERS)
    empty = [name for name, part in data.items() if part is None and name in sections]
    for name in (HISTORY, HASHES, *empty):  # the lines of an empty section are all commented out
        data.pop(name, None)
    imports = data.get("imports")
    if isinstance(imports, list) and all(isinstance(name, str) for name in imports):
        data["imports"] = list(resolved(imports, path.parent.absolute()))
    return data


def load_run(folder: str, trust: Trust = NOBODY) -> Config:
    """Reads the configuration of the run in ``folder``.

    Args:
      folder: the run folder.
      trust: which of the run's imports may run.

    Raises:
      UserError: there is no run in the folder, or ``load_recipe`` refuses its ``config.yaml``.
    """
    if not folder:
        raise UserError("which run? give its folder, such as runs/mine")
    config = Path(folder) / "config.yaml"
    try:
        there = config.is_file()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder!r}: cannot be read: {error}") from error
    if not there:
        raise UserError(f"{folder}: no run: {no_run(config.parent)}")
    return load_recipe(config, trust)


def from_mapping(content: Mapping[str, Any]) -> Config:
    """Makes a configuration from a mapping with the keys of a recipe. Raises UserError as for a file."""
    return _validate(dict(content), "")


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Returns the configuration with some settings changed.

    Args:
      config: the configuration to change.
      overrides: values by key, such as ``{"run.seed": 3}`` or ``{"run": {"seed": 3}}``.

    Raises:
      UserError: there is no such key, or the value does not fit.
    """
    data: dict[str, Any] = dataclasses.asdict(config)
    for key, value in by_key(overrides).items():
        *sections, name = key.split(".")
        place = data
        for section in sections:
            place = place.get(section, {}) if isinstance(place.get(section), dict) else {}
        if name not in place and sections[-1:] != ["options"]:
            raise UserError(f"{key}: unknown key{nearest(key, flatten(config))}")
        place[name] = value
    return _validate(data, "")


def by_key(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns overrides with one key for each setting; the settings of a section may come as a mapping.

    >>> by_key({"run": {"seed": 3}, "env.game": "Pong"})
    {'run.seed': 3, 'env.game': 'Pong'}
    """
    keys: dict[str, Any] = {}
    for key, value in overrides.items():
        is_section = isinstance(value, Mapping) and "." not in key
        keys |= {f"{key}.{name}": one for name, one in value.items()} if is_section else {key: value}
    return keys


def load_history(path: Path) -> list[Change]:
    """Reads from a run's ``config.yaml`` which settings were changed on resume, oldest first.

    Raises:
      UserError: the file cannot be read, or its history is malformed.
    """
    return _read_history(path, read_yaml(path))


def load_hashes(path: Path) -> dict[str, str]:
    """Reads from a run's ``config.yaml`` the SHA-256 of each file that the training imported.

    Raises:
      UserError: the file cannot be read, or its hashes are malformed.
    """
    return _read_hashes(path, read_yaml(path))


def changes(before: Config, after: Config, agent_steps: int) -> list[Change]:
    """Lists the settings that change as a run is resumed after ``agent_steps``."""
    old, new = flatten(before), flatten(after)
    return [
        Change(agent_steps=agent_steps, setting=key, before=old[key], after=new[key])
        for key in new
        if old[key] != new[key]
    ]


def flatten(config: Config) -> dict[str, Any]:
    """Returns every setting by its key, such as ``run.seed``."""
    flat: dict[str, Any] = {}
    for key, part in dataclasses.asdict(config).items():
        flat |= {f"{key}.{name}": x for name, x in part.items()} if isinstance(part, dict) else {key: part}
    return flat


def _read_history(path: Path, data: Any) -> list[Change]:
    try:
        return _HISTORY.validate_json(json.dumps(data.get(HISTORY) or []), strict=True)
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}{position(data, (HISTORY,))}: history: a list of changes, each with agent_steps, setting, "
            "before and after; correct it or take it out"
        ) from error


def _read_hashes(path: Path, data: Any) -> dict[str, str]:
    hashes = data.get(HASHES) or {}
    if not isinstance(hashes, dict) or not all(isinstance(x, str) for x in (*hashes, *hashes.values())):
        place = position(data, (HASHES,))
        raise UserError(f"{path}{place}: {HASHES}: a mapping of imports to hashes; correct it or take it out")
    return dict(hashes)


def packaged_recipes() -> dict[str, Path]:
    """The files of the package's recipes by name, such as ``pong`` and ``notebooks/n2_pong_mlp``."""
    paths = sorted(RECIPES.rglob("*.yaml"))
    return {str(path.relative_to(RECIPES).with_suffix("")): path for path in paths}


def check(config: Config) -> Config:
    """Checks a configuration that was made from flags. Raises UserError, which names the flag of a wrong value."""
    return _validate(dataclasses.asdict(config), "")


def with_schedule(config: Config) -> Config:
    """Sets ``run.schedule_agent_steps`` where it is 0, so that a later change of the budget does not change it."""
    run = config.run
    length = run.schedule_agent_steps or run.budget_agent_steps
    return dataclasses.replace(config, run=dataclasses.replace(run, schedule_agent_steps=length))


def schedule_progress(config: Config, agent_steps: int) -> float:
    """The share of the schedules that is over after ``agent_steps`` of the run, in [0, 1]."""
    return min(agent_steps / with_schedule(config).run.schedule_agent_steps, 1.0)


def dump(config: Config, history: Sequence[Change] = (), hashes: Mapping[str, str] | None = None) -> str:
    """Writes the configuration, the history and the hashes of imported files as YAML.

    ``load_recipe``, ``load_history`` and ``load_hashes`` read them back. The sections of registered learners that have
    no part in the run are left out, so that jaxpg can read the file without these learners.
    """
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel annotates the default
    static = {section.name for section in dataclasses.fields(Config)} | {config.run.learner}
    content = {name: part for name, part in dataclasses.asdict(config).items() if name in static}
    if history:
        content[HISTORY] = [dataclasses.asdict(change) for change in history]
    if hashes:
        content[HASHES] = dict(hashes)
    yaml.dump(json.loads(json.dumps(content)), stream)
    return stream.getvalue()


def _validate(data: dict[str, Any], source: str) -> Config:
    try:
        adapter = _adapter(config_type())  # type: ignore[arg-type]  # classes can be hashed
        config = adapter.validate_json(json.dumps(with_whole_numbers(data)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            place = source or "command line"
            raise UserError(f"{place}: a text is not Unicode, or values are nested too deep") from error
        keys = first["loc"]
        if len(keys) > 1 and isinstance(keys[-2], int) and isinstance(keys[-1], str):
            keys = keys[:-1]  # pydantic appends the type of a list's item where several types are possible
        place = f"{source}{position(data, keys)}: " if source else ""
        raise UserError(f"{place}{'.'.join(map(str, keys))}: {_sentence(first)}") from error
    except (TypeError, ValueError, RecursionError) as error:
        keys = odd_place(data) or ()
        places = [f"{source}{position(data, keys)}", ".".join(map(str, keys)), "a value"]
        raise UserError(f"{': '.join(filter(None, places))} is no text, number, list or mapping: {error}") from error
    try:
        own_section(config)
    except UserError as error:
        raise UserError(f"{source}{position(data, ('run', 'learner'))}: {error}" if source else str(error)) from error
    return config


@lru_cache
def _adapter(kind: type[Config]) -> TypeAdapter[Config]:
    return TypeAdapter(kind)


def _sentence(error: Any) -> str:
    keys = error["loc"]
    if error["type"] == "unexpected_keyword_argument":
        section: Any = config_type()
        for key in keys[:-1]:
            section = {f.name: f.type for f in dataclasses.fields(section)}[key]
        return "unknown key" + nearest(str(keys[-1]), (f.name for f in dataclasses.fields(section)))
    message = error["msg"][0].lower() + error["msg"][1:]
    message = message.replace("valid array", "list").replace("an object", "a mapping of settings")  # JSON's words
    value = error["input"]
    shown = "" if isinstance(value, dict | list) else f", not {value!r}"
    return f"{message}{shown}"
