"""The direction of imports, read from the source: a room may use only what stands before it."""

import ast
from pathlib import Path

import pytest

import jaxpg

ROOT = Path(jaxpg.__file__).parent
FILES = {str(path.relative_to(ROOT)): path for path in ROOT.rglob("*.py")}
BASE = {"console", "errors", "types", "validation"}
MAY_IMPORT = {
    "console": set(),
    "errors": {"console"},
    "registry": {"errors"},
    "user_modules": {"errors"},
    "validation": set(),
    "types": set(),
    "envs": BASE,
    "observations": BASE,
    "patches": set(),
    "convolution": {"observations", "patches", "types"},
    "policies": BASE | {"convolution", "observations"},
    "returns": BASE,
    "statistics": set(),
    "losses": BASE | {"statistics"},
    "optimizers": BASE,
    "candidates": BASE,
    "act": BASE | {"observations", "policies"},
    "outcomes": {"candidates", "types"},
    "clock": set(),
    "program": BASE | {"clock"},
    "rollout": BASE | {"act", "observations", "candidates", "clock", "outcomes", "program"},
    "team": {"errors"},
    "moments": BASE | {"observations", "statistics", "team"},
    "learners": BASE | {"moments", "observations", "policies", "returns", "losses", "statistics", "team"},
    "fleet": {"candidates", "clock", "rollout", "types"},
    "task": BASE | {"envs", "observations"},
    "durable": {"errors"},
    "counters": {"validation"},
    "resume": BASE | {"candidates", "counters", "envs", "task"},
    "checkpoint": BASE | {"console", "durable", "resume", "team"},
    "metrics": BASE | {"durable"},
    "progress": {"console", "metrics"},
    "config": BASE | {"envs", "observations", "policies", "learners", "optimizers"},
    "machine": set(),
    "sizes": BASE | {"envs", "machine"},
    "experiment": BASE
    | {"config", "envs", "fleet", "learners", "machine", "observations", "optimizers", "policies", "rollout"}
    | {"sizes", "task", "team"},
    "segments": BASE
    | {"candidates", "config", "counters", "experiment", "fleet", "resume", "rollout", "sizes", "team"},
    "distributed": {"console", "errors", "team"},
    "children": {"errors"},
    "cli": {"config", "console", "distributed", "envs", "errors"},
    "lock": {"durable", "errors"},
    "runfolder": {"config", "durable", "errors", "lock"},
    "stop": set(),
    "watchdog": {"console", "fleet"},
    "compiled": set(),
    "memory": set(),
    "saved": BASE | {"checkpoint", "cli", "config", "console", "counters", "experiment", "resume", "sizes", "task"},
    "human_scores": set(),
    "panel": set(),
    "grid": {"panel"},
    "video": {"errors"},
    "played": BASE | {"candidates", "envs", "experiment", "observations", "progress", "rollout", "sizes"},
    "trace": BASE | {"config", "envs", "durable", "learners", "played", "returns"},
    "recorder": BASE | {"console", "envs", "video"},
    "training": BASE
    | {
        "console",
        "checkpoint",
        "clock",
        "config",
        "counters",
        "experiment",
        "metrics",
        "progress",
        "recorder",
        "resume",
    }
    | {"segments", "stop", "task", "team"},
    "summary": {"human_scores"},
    "evaluations": {"durable", "errors", "summary"},
    "fingerprints": BASE,
    "runlog": {"checkpoint", "config", "counters", "errors", "evaluations", "metrics", "saved"},
    "charts": set(),
    "views": {"charts", "config", "evaluations", "metrics", "runlog", "summary"},
    "tables": {"charts", "evaluations", "human_scores", "views"},
}
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}  # forbidden: reading runs strangers' code
COMMANDS = {"__main__", "launch", "train", "evaluate", "record", "report"}


def _room(name: str) -> str:
    return name.removesuffix(".py").split("/")[0]


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_room_imports_only_what_stands_before_it(name: str) -> None:
    room = _room(name)
    rooms = {imported.split(".")[1] for imported in _imports(FILES[name]) if imported.startswith("jaxpg.")}
    if room in COMMANDS or name == "__init__.py":
        return
    assert rooms - {room, "__version__"} <= MAY_IMPORT[room]


def test_every_room_is_on_the_map() -> None:
    assert {_room(name) for name in FILES} == set(MAY_IMPORT) | COMMANDS | {"__init__"}


def test_only_the_checkpoint_room_knows_orbax_and_nobody_pickles() -> None:
    for name, path in FILES.items():
        top = {imported.split(".")[0] for imported in _imports(path)}
        assert ("orbax" in top) == (name == "checkpoint.py")
        assert not top & PICKLERS, "unpickling a stranger's file can run code"


def test_files_stay_small() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert max(lines.values()) <= 400
    assert sorted(lines.values())[len(lines) // 2] < 200
