"""The direction of imports, read from the source: a room imports only rooms on lower floors.

A room is a package of ``jaxpg/``, or a file beside the packages; ``benchmarks/`` is one more.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    str(path.relative_to(ROOT)): path for folder in ("jaxpg", "benchmarks") for path in (ROOT / folder).rglob("*.py")
}
FRONT_DOOR = "jaxpg/__init__.py"
"""Hands on public names from all floors when they are asked for; it is no room, and does nothing else."""
COMMAND_DOORS = {
    "jaxpg/tune.py": "suite",
    **dict.fromkeys(("jaxpg/export.py", "jaxpg/push.py", "jaxpg/pull.py"), "share"),
}
"""Give a command of a room its place beside the packages, for ``python -m`` and Python; they are no rooms either."""
ROOMS = {name: path for name, path in FILES.items() if name not in (FRONT_DOOR, *COMMAND_DOORS)}
MAY_IMPORT = {
    # everything stands on these
    "core": set(),
    "machine": {"core"},
    # know nothing of each other
    "envs": {"core", "machine"},
    "policies": {"core", "machine"},
    "parallel": {"core", "machine"},
    "scores": {"core", "machine"},
    # see what happened, never an emulator
    "learners": {"core", "machine", "parallel", "policies"},
    "kernel": {"core", "machine", "envs", "policies", "learners"},
    "config": {"core", "machine", "envs", "policies", "learners"},
    "experiment": {"core", "machine", "envs", "policies", "parallel", "learners", "kernel", "config"},
    "run": {"core", "machine", "envs", "parallel", "kernel", "config"},
    "cli": {"core", "machine", "envs", "parallel", "config"},
    "suite": {"core", "machine", "scores", "config", "cli"},
    "viewing": {"core", "machine", "envs", "scores", "learners", "kernel", "config", "run"},
    # the commands
    "__main__": {"core", "machine"},
    "launch": {"core", "machine", "parallel"},
    "train": {"core", "machine", "parallel", "config", "experiment", "run", "cli"},
    "evaluate": {"core", "machine", "envs", "scores", "kernel", "config", "experiment", "run", "cli"},
    "record": {"core", "machine", "envs", "config", "experiment", "run", "cli", "viewing"},
    "report": {"core", "machine", "config", "cli", "viewing"},
    "share": {"core", "machine", "scores", "cli", "evaluate"},
    "benchmarks": {"core", "machine", "envs", "policies", "parallel", "learners", "kernel", "config"}
    | {"experiment", "cli", "viewing"},
}
MOST_ROOMS, MOST_FLOORS, MOST_ARROWS = 22, 8, 100


def _room(name: str) -> str:
    package, first = Path(name).with_suffix("").parts[:2]
    return "benchmarks" if package == "benchmarks" else first


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _rooms_below(path: Path) -> set[str]:
    """The rooms that a file imports from, its own among them."""
    names = (name.split(".") for name in _imports(path) if name.startswith("jaxpg."))
    return {name[1] for name in names if name[1] in MAY_IMPORT}


def _arrows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    arrows: dict[str, set[str]] = {}
    for name, path in ROOMS.items():
        room = _room(name)
        arrows[room] = arrows.get(room, set()) | (_rooms_below(path) - {room})
    return arrows


def _floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it imports. Raises CycleError where two import each other."""
    floors: dict[str, int] = {}
    for room in TopologicalSorter(arrows).static_order():
        floors[room] = 1 + max((floors[other] for other in arrows[room]), default=0)
    return floors


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_room_imports_only_what_it_may(name: str) -> None:
    assert _rooms_below(ROOMS[name]) <= MAY_IMPORT[_room(name)] | {_room(name)}


@pytest.mark.parametrize(("name", "room"), COMMAND_DOORS.items())
def test_a_door_only_hands_a_command_on(name: str, room: str) -> None:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    assert _rooms_below(FILES[name]) == {"machine", room}
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)] == ["main"]
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) < 25


def test_what_a_room_may_import_lies_on_lower_floors() -> None:
    assert max(_floors(MAY_IMPORT).values()) <= MOST_FLOORS


def test_the_house_stays_small_and_has_no_circle() -> None:
    arrows = _arrows()
    assert set(arrows) == set(MAY_IMPORT)
    assert len(MAY_IMPORT) <= MOST_ROOMS
    assert max(_floors(arrows).values()) <= MOST_FLOORS
    assert sum(map(len, arrows.values())) <= MOST_ARROWS


def test_only_the_checkpoints_know_orbax() -> None:
    for name, path in FILES.items():
        top = {imported.split(".")[0] for imported in _imports(path)}
        assert ("orbax" in top) == (name == "jaxpg/run/checkpoints.py"), name


def test_what_takes_long_to_import_is_imported_where_it_is_used() -> None:
    """SciPy alone was a third of the seconds before ``evaluate`` says its first word."""
    for name in (name for name in FILES if name.startswith("jaxpg/")):
        lines = FILES[name].read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.startswith(("from scipy", "import scipy"))], name


def test_files_stay_small() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > 400} == {}
    assert sorted(lines.values())[len(lines) // 2] < 200


def test_functions_of_learners_and_the_kernel_stay_small() -> None:
    functions = {
        node.name: node.end_lineno - node.lineno + 1
        for name, path in FILES.items()
        if _room(name) in ("learners", "kernel")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in functions.items() if count > 60} == {}
