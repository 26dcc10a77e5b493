"""The command line: a recipe, then flags, each a field of the configuration, read by tyro."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxpg.config import PONG, Config, check, load_recipe
from jaxpg.distributed import DistributedConfig
from jaxpg.errors import UserError, nearest
from jaxpg.validation import whole_number

Arguments = TypeVar("Arguments")


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains a policy and keeps the run in a folder. Without arguments: REINFORCE on Pong."""

    POSITIONAL: ClassVar[str] = "recipe"
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[RECIPE.yaml]")] = ""
    """YAML recipe that the flags override."""
    resume: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")] = ""
    """Run folder to go on with; its own configuration is the recipe."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)
    distributed: DistributedConfig = dataclasses.field(default_factory=DistributedConfig)


def parse_train(argv: Sequence[str]) -> TrainArguments:
    """Reads the command line of ``python -m jaxpg.train``.

    Raises:
      UserError: a flag, a value, the recipe or the folder to resume is wrong.
    """
    first = parse("train", argv, TrainArguments())
    if first.recipe and first.resume:
        raise UserError("a recipe and --resume exclude each other: a resumed run has its own configuration")
    recipe: Path | None = None
    if first.resume:
        recipe = Path(first.resume) / "config.yaml"
        if not os.path.isfile(recipe):  # unlike Path.is_file, also False where the folder cannot be read
            raise UserError(f"{first.resume}: no run to resume: it has no config.yaml")
    elif first.recipe:
        recipe = Path(first.recipe)
    loaded = load_recipe(recipe) if recipe else PONG if first.config.env.game == PONG.env.game else Config()
    arguments = parse("train", argv, dataclasses.replace(first, config=loaded))
    return dataclasses.replace(arguments, config=check(arguments.config))


def parse(command: str, argv: Sequence[str], default: Arguments) -> Arguments:
    """Reads the command line of ``python -m jaxpg.<command>`` over ``default``, a dataclass of arguments.

    Its ``POSITIONAL`` says what the one argument without a name is.

    Raises:
      UserError: a flag or a value is wrong.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            prog = f"python -m jaxpg.{command}"
            return tyro.cli(type(default), args=list(argv), default=default, prog=prog, registry=_NUMBERS)
    except SystemExit as end:
        if end.code == 0:  # --help
            raise
        raise UserError(_one_sentence(said.getvalue(), default)) from end


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
        kind: Any = getattr(field.type, "__origin__", field.type)  # of an Annotated type
        if kind is Config:  # whose sections are flags themselves
            flags += _flags(kind, prefix)
        else:
            name = prefix + field.name.replace("_", "-")
            flags += _flags(kind, name + ".") if dataclasses.is_dataclass(kind) else [name]
    return flags
