"""The command line: a recipe, then flags, each a field of the configuration, read by tyro."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxpg.config import (
    RECIPES,
    Config,
    check,
    config_type,
    default_config,
    from_mapping,
    load_recipe,
    load_run,
    packaged_recipes,
    with_overrides,
    with_schedule,
)
from jaxpg.core.errors import UserError, nearest
from jaxpg.core.user_modules import Trust, import_all, resolved
from jaxpg.core.validation import whole_number
from jaxpg.envs import ATARI_BACKENDS
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool import CLASSIC
from jaxpg.machine.console import Forgiving, say
from jaxpg.machine.memory_estimate import check_memory, queued_episodes
from jaxpg.parallel.processes import DistributedConfig

Arguments = TypeVar("Arguments")
NO_FLAG = {"is_flag": False}
CROP = ("first_row", "end_row", "first_column", "end_column", "background")
"""Settings of an observation that suit one game only."""


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a policy and keeps the run in a folder. Without arguments: REINFORCE on Pong."""

    POSITIONAL: ClassVar[str] = "recipe"
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[RECIPE.yaml]")] = ""
    """YAML recipe that the flags override, a file or the name of one that comes with jaxpg, such as pong; without one,
    the recipe for env.game."""
    resume: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder to go on with; its own configuration is the recipe."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether the modules that the recipe or the run folder names in imports are imported, which runs their code."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=default_config)
    distributed: DistributedConfig = dataclasses.field(default_factory=DistributedConfig)
    about: tyro.conf.Suppress[tuple[str, ...]] = dataclasses.field(default=(), metadata=NO_FLAG)
    """Which recipe was taken, and then what should be known about it, in sentences without their full stop."""


def parse_train(argv: Sequence[str]) -> TrainArguments:
    """Reads the command line of ``python -m jaxpg.train``; imports what the user names or trusts.

    Raises:
      UserError: a flag, a value, the recipe or the folder to resume is wrong.
    """
    trust = _trust(argv)
    import_all(trust.given)
    first = parse("train", argv, TrainArguments(), is_last=False)
    if first.recipe == "[]":  # so tyro reads a flag that it does not know in the place of the recipe
        first = dataclasses.replace(first, recipe="")
    if first.recipe and first.resume:
        raise UserError("a recipe and --resume exclude each other: a resumed run has its own configuration")
    if first.resume:
        if not os.path.isfile(Path(first.resume) / "config.yaml"):  # unlike Path.is_file, also where it cannot be read
            raise UserError(f"{first.resume}: no run to resume: it has no config.yaml")
        loaded = with_schedule(load_run(first.resume, trust))  # before a flag makes the budget larger
        arguments = parse("train", argv, TrainArguments(config=loaded, about=("resumed",)))
        return dataclasses.replace(arguments, config=_with_imports(check(arguments.config), trust))
    if first.recipe:
        loaded, about = load_recipe(_recipe_path(first.recipe), trust), f"recipe {first.recipe}"
    else:
        loaded, about = _recipe_for(first.config.env)
    arguments = parse("train", argv, TrainArguments(config=loaded))
    given = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    config, remarks = _fitted_to_game(about, loaded, check(arguments.config), given)
    config = _with_imports(with_schedule(config), trust)
    return dataclasses.replace(arguments, config=config, about=(about, *remarks))


def open_recipe(
    source: str | Path | Mapping[str, Any] = "",
    overrides: Mapping[str, Any] | None = None,
    *,
    trust_imports: bool = False,
) -> Config:
    """Makes a configuration from a recipe.

    Args:
      source: the name of a recipe that comes with jaxpg (``"pong"``), a YAML file, a mapping with the same keys as a
        recipe, or nothing for the recipe that suits ``overrides["env.game"]``, which is Pong's by default.
      overrides: values by key that replace the recipe's, such as ``{"run.seed": 3}``.
      trust_imports: whether the modules that a recipe file names in ``imports`` are imported, which runs their code.
        Those in ``overrides`` or in a mapping always are.

    Raises:
      UserError: there is no such recipe, a key is unknown, a value does not fit, or imports are not trusted.
    """
    overrides = dict(overrides or {})
    trust = Trust(resolved(overrides.get("imports", ()), Path.cwd()), trust_imports)
    import_all(trust.given)
    if isinstance(source, Mapping):
        trust = Trust(resolved(source.get("imports", ()), Path.cwd()))
        import_all(trust.given)
        loaded, about = from_mapping(source), "the mapping"
    elif source:
        loaded, about = load_recipe(_recipe_path(str(source)), trust), f"recipe {source}"
    else:
        asked = EnvConfig(**{key[4:]: overrides[key] for key in ("env.game", "env.backend") if key in overrides})
        loaded, about = _recipe_for(asked)
    config, remarks = _fitted_to_game(about, loaded, with_overrides(loaded, overrides), set(overrides))
    for remark in remarks:
        say(f"jaxpg: {remark}")
    return _with_imports(with_schedule(config), trust)


def _trust(argv: Sequence[str]) -> Trust:
    """What the user named with ``--imports`` and whether he said ``--trust-imports``, before anything else is read."""
    given: list[str] = []
    takes = False
    for word in argv:
        if word == "--imports" or word.startswith("--imports="):
            takes = True
            given += [word.partition("=")[2]] if "=" in word else []
        elif word.startswith("-"):
            takes = False
        elif takes:
            given.append(os.path.expanduser(word))
    return Trust(resolved(given, Path.cwd()), "--trust-imports" in argv)


def _with_imports(config: Config, trust: Trust) -> Config:
    """The configuration with the paths of the imports as they are found from anywhere."""
    named = resolved(config.imports, Path.cwd())
    return dataclasses.replace(config, imports=tuple(dict.fromkeys((*trust.given, *named))))


def _recipe_path(recipe: str) -> Path:
    """A file of the user's, or the packaged recipe of that name."""
    if os.path.isfile(recipe):
        return Path(recipe)
    packaged = packaged_recipes()
    if recipe in packaged:
        return packaged[recipe]
    if not Path(recipe).suffix:
        raise UserError(f"{recipe}: neither a file nor a recipe that comes with jaxpg{nearest(recipe, packaged)}")
    return Path(recipe)


def _recipe_for(env: EnvConfig) -> tuple[Config, str]:
    """The recipe of the package for a game, and how it is called; one for any game stands for it."""
    if env.backend not in ATARI_BACKENDS:
        return default_config(), "no recipe"
    name = "pong_reinforce" if env.game == "Pong" else "cartpole" if env.game in CLASSIC else "atari_fast"
    config = load_recipe(RECIPES / f"{name}.yaml")
    if config.env.game != env.game:  # a target is a score of one game
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, target_return=None))
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, game=env.game))
    return config, f"recipe {name}, chosen for {env.game}"


def _fitted_to_game(recipe: str, loaded: Config, config: Config, given: Set[str]) -> tuple[Config, list[str]]:
    """The configuration without what belongs to the recipe's own game, and what to say about it.

    Args:
      recipe: how the recipe is called.
      loaded: the recipe.
      config: the recipe with the flags over it.
      given: the keys that the user set himself; what they say is meant.

    Raises:
      UserError: the policy's actions or inputs are those of another game.
    """
    game, other = loaded.env.game, config.env.game
    if game == other:
        return config, []
    theirs = ["its env.actions"] if config.env.actions and "env.actions" not in given else []
    seen = config.observation
    crop = (seen.first_row, seen.end_row or seen.height, seen.first_column, seen.end_column or seen.width)
    if seen.name == "gray_difference" and given.isdisjoint(f"observation.{name}" for name in CROP):
        theirs += ["its crop, observation.first_row to end_column"] if crop != (0, seen.height, 0, seen.width) else []
        theirs += ["its observation.background"] if seen.background else []
    if theirs:
        raise UserError(
            f"{recipe}: {' and '.join(theirs)} belong to {game} and not to {other}; give them as flags, "
            f"or train without a recipe, which chooses one for {other}"
        )
    target = config.run.target_return
    if target is None or "run.target_return" in given:
        return config, []
    run = dataclasses.replace(config.run, target_return=None)
    return dataclasses.replace(config, run=run), [f"the target of {game}, {target:g}, is left out for {other}"]


def parse_play(command: str, argv: Sequence[str], default: Any) -> tuple[Any, Config]:
    """Reads the command line of a command that plays a run's policy.

    Args:
      command: its name.
      argv: what the user gave.
      default: a dataclass of arguments with ``run``, ``episodes``, ``seed`` and ``env``.

    Returns:
      The arguments, whose ``env`` is the run's own with the flags over it, and the run's configuration.

    Raises:
      UserError: there is no such run, or a flag or a value is wrong.
    """
    trust = _trust(argv)
    import_all(trust.given)
    first: Any = parse(command, argv, default)
    config = load_run(first.run, trust)
    arguments: Any = parse(command, argv, dataclasses.replace(default, env=config.env))
    check_games(arguments.episodes, arguments.seed)
    env = check(dataclasses.replace(config, env=arguments.env)).env
    return dataclasses.replace(arguments, env=env), config


def open_run(run: str | Path, imports: Sequence[str] = (), *, trust_imports: bool = False) -> Config:
    """The configuration of the run in a folder, whose imports are run where the user named or trusts them.

    Raises:
      UserError: there is no such run, or its imports are not trusted.
    """
    trust = Trust(resolved(imports, Path.cwd()), trust_imports)
    import_all(trust.given)
    return load_run(os.fspath(run), trust)


def check_games(episodes: int, seed: int) -> None:
    """Raises UserError where so many games cannot be played, or not from this seed."""
    if episodes < 1:
        raise UserError(f"episodes: at least 1, not {episodes}")
    check_memory([queued_episodes("episodes", episodes)])
    if not 0 <= seed < 2**31:
        raise UserError(f"seed: from 0 to {2**31 - 1}, not {seed}")


def parse(command: str, argv: Sequence[str], default: Arguments, *, is_last: bool = True) -> Arguments:
    """Reads the command line of ``python -m jaxpg.<command>`` over ``default``, a dataclass of arguments.

    Its ``POSITIONAL`` says what the one argument without a name is. Where the reading is not the last one, unknown
    flags are left to the next, which knows what the recipe imports.

    Raises:
      UserError: a flag or a value is wrong.
    """
    said, words = io.StringIO(), [_with_home(word) for word in argv]
    help_reader = Forgiving(sys.stdout)  # who may close the pipe before the help's end
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(help_reader):
            prog = f"python -m jaxpg.{command}"
            if not is_last:
                words = [word for word in words if word not in ("-h", "--help")]
                read = tyro.cli(
                    type(default), args=words, default=default, prog=prog, registry=_NUMBERS, return_unknown_args=True
                )
                return read[0]
            return tyro.cli(type(default), args=words, default=default, prog=prog, registry=_NUMBERS)
    except SystemExit as end:
        if end.code == 0:  # --help
            raise
        raise UserError(_one_sentence(said.getvalue(), default)) from end


def _with_home(word: str) -> str:
    """The word with the home folder for a ~ at the beginning of a value; shells do not see to that behind a ``=``.

    >>> _with_home("--run.dir=runs/~/x")
    '--run.dir=runs/~/x'
    """
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return flag + equals + os.path.expanduser(value)


_NUMBERS = ConstructorRegistry()


@_NUMBERS.primitive_rule
def _whole_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """Integer flags take 1e6, too."""
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _one_sentence(box: str, arguments: Any) -> str:
    """Tyro's framed message as one sentence, and for an unknown flag the nearest one."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]
    text = itertools.dropwhile(_is_frame, lines)  # a rule under the title is drawn where stdout is not UTF-8
    sentence = " ".join(itertools.takewhile(lambda line: not _is_frame(line), text)).rstrip(".")
    unknown = re.match(r"Unrecognized options: (\S+?),?(?:\s|$)", sentence)
    if unknown is None:
        return sentence
    flag = unknown.group(1)
    if not flag.startswith("--"):
        return f"unexpected argument {flag!r}; give one {arguments.POSITIONAL}, then flags such as --env.game Pong"
    return f"unknown flag {flag}{nearest(flag, _flags(type(arguments), '--'))}"


def _is_frame(line: str) -> bool:
    return not line.strip("─-╰╯")


def _flags(section: Any, prefix: str) -> list[str]:
    flags = []
    for field in dataclasses.fields(section):
        if not field.metadata.get("is_flag", True):
            continue
        kind: Any = getattr(field.type, "__origin__", field.type)  # of an Annotated type
        if kind is Config:  # whose sections are flags themselves
            flags += _flags(config_type(), prefix)
        else:
            name = prefix + field.name.replace("_", "-")
            flags += _flags(kind, name + ".") if dataclasses.is_dataclass(kind) else [name]
    return flags
