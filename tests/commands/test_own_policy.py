"""The documented policy of a user's own, docs/examples/two_layers.py, through every command and from Python."""

import hashlib
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxpg
from jaxpg.cli import open_run, parse_train
from jaxpg.config import load_hashes, load_history, load_recipe
from jaxpg.core import user_modules
from jaxpg.core.user_modules import Trust, remarks_on_changes
from jaxpg.run.run_folder import write_resumed_config
from tests.runs import records, run

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "two_layers.py"
TINY = [
    *("pong", "--policy.name", "two_layers", "--env.num-lanes", "2", "--env.max-episode-agent-steps", "20"),
    *("--env.num-threads", "1", "--reinforce.rollout-agent-steps", "8", "--reinforce.minibatch-agent-steps", "16"),
    *("--run.budget-agent-steps", "32"),
]
NOT_TRUSTED = (
    "which would run that code; if you trust it, say --trust-imports (in Python trust_imports=True), or pass "
    "--imports yourself"
)


def command(name: str, *argv: str, code: int = 0) -> None:
    """A command within this process."""
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"jaxpg.{name}").main(argv)
    assert end.value.code == code


def process(name: str, *argv: str, cwd: Path) -> None:
    """A command as a real process, which must import the file by itself."""
    words = [sys.executable, "-m", f"jaxpg.{name}", *argv]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and a finished run of it."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(EXAMPLE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(*TINY, "--imports", "./two_layers.py", "--run.dir", "mine")
    return folder


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def test_the_run_keeps_the_file_s_place_and_refuses_to_run_it_unasked(at_home: Path, capsys) -> None:
    assert load_recipe(Path("mine/config.yaml"), Trust(everything=True)).imports == (str(at_home / "two_layers.py"),)
    for name, run_folder in {"evaluate": "mine", "record": "mine", "train": "--resume=mine"}.items():
        command(name, run_folder, code=2)
        said = capsys.readouterr().err
        assert said.startswith("jaxpg: ")
        assert said.rstrip().endswith(f"it imports {at_home / 'two_layers.py'}, {NOT_TRUSTED}")
    assert not Path("mine/evaluation.json").exists()


def test_evaluate_record_report_and_resume_know_it(at_home: Path, capsys) -> None:
    command("evaluate", "mine", "--episodes", "2", "--trust-imports")
    assert "episodes=2" in capsys.readouterr().out
    command("record", "mine", "--imports", "./two_layers.py")
    (video,) = Path("mine/videos").glob("*.mp4")
    assert video.stat().st_size > 1000
    command("report", "mine")  # it plays nothing
    assert b"two_layers" in Path("report.html").read_bytes()
    command("train", "--resume", "mine", "--trust-imports", "--run.budget-agent-steps", "64")
    assert records(at_home / "mine")[-1]["agent_steps"] == 64


@pytest.fixture
def moved(home: Path, tmp_path: Path) -> Path:
    """A folder with the run, whose file is gone, and the file in another place."""
    shutil.copytree(home / "mine", tmp_path / "mine", ignore=shutil.ignore_patterns("videos", "lock"))
    config = tmp_path / "mine" / "config.yaml"
    config.write_text(config.read_text().replace(str(home), "/nowhere"))
    (tmp_path / "new").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "new")
    return tmp_path


def test_a_file_that_has_moved_is_given_its_new_place(moved: Path, capsys) -> None:
    folder, new = moved / "mine", str(moved / "new" / "two_layers.py")
    gone = "imports: /nowhere/two_layers.py: there is no such file; if it has moved, give its new place with --imports"
    with pytest.raises(jaxpg.UserError, match=gone):
        parse_train(["--resume", str(folder), "--trust-imports"])
    for words in ([], ["--trust-imports"]):
        arguments = parse_train(["--resume", str(folder), "--imports", new, *words])
        assert (arguments.config.imports, arguments.about) == ((new,), ("resumed",))
        assert open_run(folder, [new], trust_imports=bool(words)).imports == (new,)
    assert capsys.readouterr() == ("", ""), "the file is the same"
    write_resumed_config(folder, arguments.config, 32)
    (change,) = [one for one in load_history(folder / "config.yaml") if one.setting == "imports"]
    assert (change.before, change.after) == (["/nowhere/two_layers.py"], [new])
    assert list(load_hashes(folder / "config.yaml")) == [new]
    assert open_run(folder, trust_imports=True).imports == (new,), "from now on it is the run's own"


def test_the_given_imports_replace_those_of_the_run_or_come_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the user trusts the others, too, decides; in both cases the new run keeps whatever was imported."""
    files = [str(tmp_path / name) for name in ("stored.py", "given.py")]
    for file in files:
        Path(file).touch()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("imports: [./stored.py]\n")
    for words, kept in {(): files[1:], ("--trust-imports",): files[::-1]}.items():
        monkeypatch.setattr(user_modules, "_IMPORTED", {})
        assert parse_train([str(recipe), "--imports", files[1], *words]).config.imports == tuple(kept)
        assert user_modules.imported() == kept
    config = jaxpg.load_recipe(recipe, {"imports": files[1:]}, trust_imports=True)
    assert config.imports == tuple(files[::-1])


def test_a_file_that_has_changed_is_named_with_its_run(moved: Path, capsys) -> None:
    folder, other = moved / "mine", moved / "other" / "two_layers.py"
    other.parent.mkdir()
    other.write_text(EXAMPLE.read_text() + "# changed\n")
    remark = f"{folder}: {other} has changed since the run was trained"
    arguments = parse_train(["--resume", str(folder), "--imports", str(other)])
    assert arguments.about == ("resumed", remark)
    open_run(folder, [str(other)])
    assert capsys.readouterr().out == f"jaxpg: {remark}\n"
    before = load_hashes(folder / "config.yaml")
    write_resumed_config(folder, arguments.config, 32)
    (change,) = [one for one in load_history(folder / "config.yaml") if one.setting == "imports_sha256"]
    assert change.before == before
    assert change.after == load_hashes(folder / "config.yaml") != before
    open_run(folder, [str(other)])
    assert capsys.readouterr().out == "", "the training has gone on with this file"


def test_which_files_are_not_what_a_run_was_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_modules, "_IMPORTED", {"/new/a.py": "1", "/new/b.py": "3", "parts": "4", "built_in": ""})
    assert remarks_on_changes({"/old/a.py": "1", "/old/b.py": "3", "parts": "4"}, list(user_modules._IMPORTED)) == []
    assert remarks_on_changes({"/old/other_name.py": "1"}, ["/new/a.py"]) == []
    assert remarks_on_changes({}, ["/new/a.py"]) == [], "an older version kept no hashes"
    assert remarks_on_changes({"/old/b.py": "2", "gone": "5"}, ["/new/a.py", "/new/b.py"]) == [
        "/new/b.py has changed since the run was trained",
        "the run was trained without /new/a.py",
        "the run was trained with gone, which is not imported now",
    ]


def test_the_hash_is_that_of_the_file_as_it_was_imported(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    for _ in range(2):
        user_modules.import_all([str(file), "json"])
        hashes = user_modules.hashes_of([str(file), "json", "never_imported"])
        assert list(hashes) == [str(file), "json"]
        assert hashes[str(file)] == hashlib.sha256(b"x = 1\n").hexdigest()
        file.write_text("x = 2\n")


@pytest.mark.long
def test_real_processes_import_it_by_themselves(tmp_path: Path) -> None:
    """Also the two of a launch and the one that makes a video beside it. Evaluation: docs/guides/policy.md."""
    shutil.copy(EXAMPLE, tmp_path)
    argv = [*TINY, "--imports", "two_layers.py", "--run.dir", "two", "--run.record-every", "2"]
    process("launch", "--processes", "2", "--", *argv, cwd=tmp_path)
    assert len(records(tmp_path / "two")) == 2
    assert [path.stem for path in (tmp_path / "two" / "videos").glob("*.mp4")] == ["2"]


def test_from_python(home: Path, tmp_path: Path) -> None:
    """Training, twice in one process, evaluation, and the policy as a function, whose probabilities are the run's."""
    imports = [str(home / "two_layers.py")]
    overrides = {
        **{"imports": imports, "policy.name": "two_layers", "env.num_lanes": 2, "env.max_episode_agent_steps": 20},
        **{"reinforce.rollout_agent_steps": 8, "reinforce.minibatch_agent_steps": 16, "run.budget_agent_steps": 48},
    }
    seen: list[int] = []

    def stop_after_two(record: dict, episodes: list) -> bool:
        seen.append(record["iteration"])
        return record["iteration"] < 2

    config = jaxpg.load_recipe("pong", overrides)
    result = jaxpg.train(config, tmp_path / "x", callbacks=[stop_after_two])
    assert (result.ended, result.agent_steps, seen) == ("a callback ended the run", 32, [1, 2])
    result = jaxpg.train(None, tmp_path / "x", resume=True, trust_imports=True)
    assert (result.ended, result.agent_steps) == ("budget of agent steps used", 48)
    scores = jaxpg.evaluate(tmp_path / "x", episodes=3, trust_imports=True)
    assert len(scores.returns) == 3
    policy = jaxpg.load_policy(tmp_path / "x", checkpoint="best", trust_imports=True)
    assert policy.action_names == ("NOOP", "RIGHT", "LEFT")
    batch = np.random.default_rng(0).integers(0, 256, (5, *policy.observation_shape), np.uint8)
    actions, probabilities, value = policy(batch)
    assert (actions.shape, probabilities.shape, value.shape) == ((5,), (5, 3), (5,))
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, rtol=1e-6)
    one = policy(batch[3])
    np.testing.assert_allclose(one.probabilities, probabilities[3], rtol=1e-5)
    assert one.action == actions[3] == np.argmax(probabilities[3])
    with pytest.raises(jaxpg.UserError, match=r"observation: shape \[3\] is neither"):
        policy(np.zeros(3))


def test_what_a_user_gets_wrong_is_a_sentence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("import jaxpg\n\n1 / 0\n")
    (tmp_path / "taken.py").write_text("import jaxpg\n\n@jaxpg.register_policy('mlp')\nclass Mine: pass\n")
    cases = {
        "./nothing.py": "there is no such file",
        "no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
        "./broken.py": f"imports: {tmp_path / 'broken.py'}:3: ZeroDivisionError: division by zero",
        "./taken.py": "policy.name: the name 'mlp' is taken; register yours under another",
    }
    for imports, sentence in cases.items():
        with pytest.raises(jaxpg.UserError, match=re.escape(sentence)):
            jaxpg.load_recipe("pong", {"imports": [imports]})
    with pytest.raises(jaxpg.UserError, match=r"run.sed: unknown key; did you mean 'run.seed'\?"):
        jaxpg.load_recipe("pong", {"run.sed": 3})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"imports: ['{home / 'two_layers.py'}']\npolicy: {{name: two_layers}}\n")
    with pytest.raises(jaxpg.UserError, match=re.escape(NOT_TRUSTED)):
        jaxpg.load_recipe(recipe)
    run("--imports", "./nothing.py", code=2)


def test_nothing_is_printed_from_python(tmp_path: Path) -> None:
    code = (
        "import jaxpg, logging, sys\n"
        "assert 'jax' not in sys.modules, 'importing takes no time'\n"
        "config = jaxpg.load_recipe('cartpole', {'env.num_lanes': 2, 'reinforce.rollout_agent_steps': 4,\n"
        "    'run.budget_agent_steps': 16})\n"
        "jaxpg.train(config, 'quiet')\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(name)s|%(message)s', force=True)\n"
        "jaxpg.train(config, 'heard')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert all("|" in line and "quiet" not in line for line in lines)
    assert any(line.startswith("jaxpg|iteration=2 agent_steps=16") for line in lines), lines
