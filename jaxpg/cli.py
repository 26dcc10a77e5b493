"""Reads command lines with tyro: a recipe, then flags. Each flag is a field of the configuration."""

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

import numpy as np
import tyro

from jaxpg.config import (
    RECIPES,
    Config,
    by_key,
    check,
    config_type,
    default_config,
    from_mapping,
    load_hashes,
    load_recipe,
    load_run,
    packaged_recipes,
    with_overrides,
    with_schedule,
)
from jaxpg.core.errors import UserError, nearest, no_run
from jaxpg.core.flag_types import FLAG_TYPES
from jaxpg.core.user_modules import Trust, import_all, remarks_on_changes, resolved
from jaxpg.envs import kind_of
from jaxpg.envs.config import EnvConfig
from jaxpg.machine.console import HelpText, say
from jaxpg.machine.memory_estimate import check_memory, queued_episodes
from jaxpg.parallel.processes import DistributedConfig

Arguments = TypeVar("Arguments")
NO_FLAG = {"is_flag": False}
CROP = ("first_row", "end_row", "first_column", "end_column", "background")
"""Settings of an observation that fit only one game."""
RECIPE_OF_GAME = {("pixels", "Pong"): "pong_reinforce", ("vector", "CartPole-v1"): "cartpole"}
RECIPE_OF_BACKEND = {("picture", "gymnax"): "minatar"}
RECIPE_OF_KIND = {"pixels": "atari", "vector": "vector", "picture": "small_picture"}
"""Recipe for each kind of environment, as ``kind_of`` names it, where neither the game nor the backend has its own."""


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a policy and keeps the run in a folder. Without arguments: REINFORCE on Pong."""

    POSITIONAL: ClassVar[str] = "recipe"
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[RECIPE.yaml]")] = ""
    """YAML recipe that the flags override: a file, or the name of a recipe that comes with jaxpg, such as pong. Without
    a recipe, env.game chooses one."""
    resume: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Folder of a run to continue; the run's own configuration is the recipe."""
    trust_imports: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Whether to import the modules that the recipe or the run folder names in imports, which runs their code."""
    profile: tuple[int, int] | None = None
    """First and last iteration to profile, such as 10 12. ui.perfetto.dev opens the trace, which is in the run folder's
    profile/."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=default_config)
    distributed: DistributedConfig = dataclasses.field(default_factory=DistributedConfig)
    about: tyro.conf.Suppress[tuple[str, ...]] = dataclasses.field(default=(), metadata=NO_FLAG)
    """The recipe's name, then remarks about it for the user, in sentences without their full stop."""


def parse_train(argv: Sequence[str]) -> TrainArguments:
    """Reads the command line of ``python -m jaxpg.train``, and imports the modules that the user names or trusts.

    Raises:
      UserError: a flag, a value, the recipe or the folder to resume is wrong.
    """
    trust = _trust(argv)
    import_all(trust.given)
    first = parse("train", argv, TrainArguments(), is_last=False)
    if first.recipe == "[]":  # tyro's value of the recipe where an unknown flag stands in its place
        first = dataclasses.replace(first, recipe="")
    if first.recipe and first.resume:
        raise UserError("a recipe and --resume exclude each other: a resumed run has its own configuration")
    if first.resume:
        if not os.path.isfile(Path(first.resume) / "config.yaml"):  # unlike Path.is_file, it never raises OSError
            raise UserError(f"{first.resume}: no run to resume: {no_run(Path(first.resume))}")
        loaded = with_schedule(load_run(first.resume, trust))  # before a flag makes the budget larger
        words = ("resumed", *_remarks_on_imports(first.resume, loaded))
        arguments = parse("train", argv, TrainArguments(config=loaded, about=words))
        if arguments.config.run.dir not in (loaded.run.dir, first.resume):
            raise UserError(
                f"--run.dir: a resumed run stays in its folder, {first.resume}; leave --run.dir out, or copy the "
                "folder and resume the copy"
            )
        return dataclasses.replace(arguments, config=_with_imports(check(arguments.config), loaded, trust))
    if first.recipe:
        loaded, about = load_recipe(_recipe_path(first.recipe), trust), f"recipe {first.recipe}"
    else:
        loaded, about = _recipe_for(first.config.env)
    arguments = parse("train", argv, TrainArguments(config=loaded))
    given = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    config, remarks = _fitted_to_game(about, loaded, check(arguments.config), given)
    config = _with_imports(with_schedule(config), loaded, trust)
    return dataclasses.replace(arguments, config=config, about=(about, *remarks))


def open_recipe(
    source: str | Path | Mapping[str, Any] = "",
    overrides: Mapping[str, Any] | None = None,
    *,
    trust_imports: bool = False,
) -> Config:
    """Makes a configuration from a recipe.

    Args:
      source: the name of a recipe that comes with jaxpg (``"pong"``), the path of a YAML file, or a mapping with the
        keys of a recipe. Without a source, ``overrides["env.game"]`` chooses the recipe; the default game is Pong.
      overrides: values by key that replace the recipe's values, such as ``{"run.seed": 3}`` or
        ``{"run": {"seed": 3}}``.
      trust_imports: whether to import the modules that a recipe file names in ``imports``, which runs their code.
        Modules that ``overrides`` or a mapping name are always imported.

    Raises:
      UserError: there is no such recipe, a key is unknown, a value does not fit, or imports are not trusted.
    """
    overrides = by_key(overrides or {})
    trust = Trust(resolved(overrides.get("imports", ()), Path()), trust_imports)
    import_all(trust.given)
    if isinstance(source, Mapping):
        trust = Trust((*trust.given, *resolved(source.get("imports", ()), Path())))
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
    return _with_imports(with_schedule(config), loaded, trust)


def _trust(argv: Sequence[str]) -> Trust:
    """Reads ``--imports`` and ``--trust-imports`` from the command line, before anything else is read."""
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
    return Trust(resolved(given, Path()), "--trust-imports" in argv)


def trust_flags(imports: Sequence[str], trust_imports: bool) -> list[str]:
    """The flags that say the same to ``parse_train``: which modules are given, and whether all others are trusted."""
    return [*(["--imports", *imports] if imports else []), *(["--trust-imports"] if trust_imports else [])]


def _with_imports(config: Config, loaded: Config, trust: Trust) -> Config:
    """Names all modules that were imported: those that the user gave, and those of the recipe or run.

    Paths become absolute, so that they hold in any working directory.
    """
    return dataclasses.replace(config, imports=tuple(dict.fromkeys((*trust.given, *resolved(loaded.imports, Path())))))


def _remarks_on_imports(folder: str, config: Config) -> list[str]:
    """Sentences, without their full stop, about imported files that are not what the run was trained with."""
    return [f"{folder}: {one}" for one in remarks_on_changes(load_hashes(Path(folder) / "config.yaml"), config.imports)]


def _recipe_path(recipe: str) -> Path:
    """Finds a recipe: a file of the user, or the packaged recipe of that name.

    Raises:
      UserError: there is no packaged recipe of that name, and the name does not look like a file's.
    """
    if os.path.isfile(recipe):
        return Path(recipe)
    packaged = packaged_recipes()
    if recipe in packaged:
        return packaged[recipe]
    if not Path(recipe).suffix:
        raise UserError(f"{recipe}: neither a file nor a recipe that comes with jaxpg{nearest(recipe, packaged)}")
    return Path(recipe)


def _recipe_for(env: EnvConfig) -> tuple[Config, str]:
    """Chooses the packaged recipe for a game, with ``env.game`` set; also returns words for the first line of a run."""
    kind = kind_of(env)
    special = RECIPE_OF_GAME.get((kind, env.game)) or RECIPE_OF_BACKEND.get((kind, env.backend))
    name = special or RECIPE_OF_KIND.get(kind)
    if name is None:
        return default_config(), "no recipe"
    config = load_recipe(RECIPES / f"{name}.yaml")
    if config.env.game != env.game:  # the target is a score of the recipe's own game
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, target_return=None))
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, game=env.game, backend=env.backend))
    return config, f"recipe {name}, chosen for {env.game}"


def _fitted_to_game(recipe: str, loaded: Config, config: Config, given: Set[str]) -> tuple[Config, list[str]]:
    """Removes the target of the recipe's own game where the user chose another game.

    Args:
      recipe: how sentences call the recipe.
      loaded: the recipe.
      config: the recipe, overridden by the flags.
      given: the keys that the user set; their values always stay.

    Returns:
      The configuration, and remarks for the user about what was removed.

    Raises:
      UserError: the recipe's actions, crop or background belong to its own game.
    """
    game, other = loaded.env.game, config.env.game
    if game == other:
        return config, []
    theirs = ["its env.actions"] if config.env.actions and "env.actions" not in given else []
    seen = config.observation
    crop = (seen.first_row, seen.end_row or seen.height, seen.first_column, seen.end_column or seen.width)
    if seen.is_cropped and given.isdisjoint(f"observation.{name}" for name in CROP):
        theirs += ["its crop, observation.first_row to end_column"] if crop != (0, seen.height, 0, seen.width) else []
        theirs += ["its observation.background"] if seen.background else []
    if theirs:
        raise UserError(
            f"{recipe}: {' and '.join(theirs)} belong to {game} and not to {other}; give them as flags, "
            f"or train without a recipe, which chooses one for {other}"
        )
    remarks = []
    if config.reinforce.cut_at_reward and "reinforce.cut_at_reward" not in given:
        remarks.append(f"reinforce.cut_at_reward is kept from {game}: any reward ends the credit in {other}, too")
    target = config.run.target_return
    if target is None or "run.target_return" in given:
        return config, remarks
    run = dataclasses.replace(config.run, target_return=None)
    remarks.append(f"the target of {game}, {target:g}, is left out for {other}")
    return dataclasses.replace(config, run=run), remarks


def parse_play(command: str, argv: Sequence[str], default: Any) -> tuple[Any, Config]:
    """Reads the command line of a command that plays a run's policy.

    Args:
      command: the command's name.
      argv: the words after the command's name.
      default: a dataclass of arguments with ``run``, ``episodes``, ``seed`` and ``env``.

    Returns:
      The arguments and the run's configuration. The arguments' ``env`` is the run's, overridden by the flags.

    Raises:
      UserError: there is no such run, or a flag or a value is wrong.
    """
    trust = _trust(argv)
    import_all(trust.given)
    first: Any = parse(command, argv, default)
    config = open_run(first.run, trust.given, trust_imports=trust.everything)
    arguments: Any = parse(command, argv, dataclasses.replace(default, env=config.env))
    check_games(arguments.episodes, arguments.seed)
    env = check(dataclasses.replace(config, env=arguments.env)).env
    return dataclasses.replace(arguments, env=env), config


def open_run(run: str | Path, imports: Sequence[str] = (), *, trust_imports: bool = False) -> Config:
    """Reads the configuration of the run in a folder, and imports the modules that the run needs.

    A printed sentence names each imported file that has changed since the run was trained.

    Args:
      run: the run folder.
      imports: modules and files that the caller imports, and therefore trusts, in place of those of the run.
      trust_imports: whether to import whatever the run folder names.

    Raises:
      UserError: there is no such run, or its imports are not trusted.
    """
    trust = Trust(resolved(imports, Path()), trust_imports)
    import_all(trust.given)
    config = load_run(os.fspath(run), trust)
    for remark in _remarks_on_imports(os.fspath(run), config):
        say(f"jaxpg: {remark}")
    return config


def check_games(episodes: int, seed: int) -> None:
    """Checks that memory holds a queue of so many episodes, and that the seed is in range; else raises UserError."""
    for name, number in (("episodes", episodes), ("seed", seed)):
        if not isinstance(number, int | np.integer):
            raise UserError(f"{name}: a whole number, not {number!r}")
    if episodes < 1:
        raise UserError(f"episodes: at least 1, not {episodes}")
    check_memory([queued_episodes("episodes", episodes)])
    if not 0 <= seed < 2**31:
        raise UserError(f"seed: from 0 to {2**31 - 1}, not {seed}")


def parse(command: str, argv: Sequence[str], default: Arguments, *, is_last: bool = True) -> Arguments:
    """Reads the command line of ``python -m jaxpg.<command>``.

    Args:
      command: the command's name.
      argv: the words after the command's name.
      default: a dataclass of arguments, whose values the flags override. Its ``POSITIONAL`` names the argument without
        a flag, for error sentences.
      is_last: whether unknown flags are errors. A reading that is not the last one ignores unknown flags and --help,
        because flags may belong to what the recipe imports.

    Raises:
      UserError: a flag or a value is wrong.
    """
    said, words = io.StringIO(), [_with_home(word) for word in argv]
    help_reader = HelpText(sys.stdout)  # the reader of the help may close the pipe before its end
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(help_reader):
            prog = f"python -m jaxpg.{command}"
            if not is_last:
                words = [word for word in words if word not in ("-h", "--help")]
                read = tyro.cli(
                    type(default), args=words, default=default, prog=prog, registry=FLAG_TYPES, return_unknown_args=True
                )
                return read[0]
            return tyro.cli(type(default), args=words, default=default, prog=prog, registry=FLAG_TYPES)
    except SystemExit as end:
        if end.code == 0:  # --help
            raise
        raise UserError(_one_sentence(said.getvalue(), default)) from end


def _with_home(word: str) -> str:
    """Replaces a ~ at the beginning of a value by the home folder; shells do not expand a ~ after ``=``.

    >>> _with_home("--run.dir=runs/~/x")
    '--run.dir=runs/~/x'
    """
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return flag + equals + os.path.expanduser(value)


def _one_sentence(box: str, arguments: Any) -> str:
    """Turns tyro's framed message into one sentence; for an unknown flag, suggests the nearest known flag."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]
    text = itertools.dropwhile(_is_frame, lines)  # tyro draws a line under the title where stdout is not UTF-8
    sentence = " ".join(itertools.takewhile(lambda line: not _is_frame(line), text)).rstrip(".")
    unknown = re.match(r"Unrecognized options: (\S+?),?(?:\s|$)", sentence)
    if unknown is None:
        return sentence
    flag = unknown.group(1)
    if flag.casefold() in ("true", "false", "yes", "no", "on", "off"):
        return (
            f"unexpected argument {flag!r}; a setting that is on or off is given as --x.y or --x.no-y, without a value"
        )
    if not flag.startswith("--"):
        return f"unexpected argument {flag!r}; give one {arguments.POSITIONAL}, then flags such as --env.game Pong"
    name, positional = flag.partition("=")[0], _positional(type(arguments))
    if name.removesuffix("s") == f"--{positional.removesuffix('s')}":
        return f"unknown flag {flag}; give the {arguments.POSITIONAL} without a flag before it"
    return f"unknown flag {flag}{nearest(flag, _flags(type(arguments), '--'))}"


def _is_frame(line: str) -> bool:
    """Whether a line holds nothing but the frame around tyro's message."""
    return not line.strip("─-╰╯")


def _positional(arguments: type) -> str:
    """Name of the field of a dataclass of arguments that is given without a flag: the first one."""
    return dataclasses.fields(arguments)[0].name


def _flags(section: Any, prefix: str) -> list[str]:
    """Lists the flags of a dataclass of arguments and of the dataclasses in it."""
    flags = []
    for field in dataclasses.fields(section):
        if not field.metadata.get("is_flag", True) or (
            hasattr(section, "POSITIONAL") and field.name == _positional(section)
        ):
            continue
        kind: Any = getattr(field.type, "__origin__", field.type)  # the type inside Annotated
        if kind is Config:  # its sections are flags without a prefix of their own
            flags += _flags(config_type(), prefix)
        else:
            name = prefix + field.name.replace("_", "-")
            flags += _flags(kind, name + ".") if dataclasses.is_dataclass(kind) else [name]
    return flags
