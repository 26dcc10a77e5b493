"""The documented policy of a user's own, docs/examples/two_layers.py, through every command and from Python."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxpg
from jaxpg.config import load_recipe
from jaxpg.core.user_modules import Trust
from tests.runs import records, run

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "two_layers.py"
TINY = [
    *("pong", "--policy.name", "two_layers", "--env.num-lanes", "2", "--env.max-episode-agent-steps", "20"),
    *("--env.num-threads", "1", "--reinforce.rollout-agent-steps", "8", "--reinforce.minibatch-agent-steps", "16"),
    *("--run.budget-agent-steps", "32"),
]
NOT_TRUSTED = "which would run that code; if you trust it, say --trust-imports, or pass --imports yourself"


def command(name: str, *argv: str, cwd: Path, code: int = 0) -> str:
    """A command as a real process, because each must import the file by itself; returns what it said."""
    done = subprocess.run(
        [sys.executable, "-m", f"jaxpg.{name}", *argv],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and a finished run of it."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(EXAMPLE, folder)
    command("train", *TINY, "--imports", "./two_layers.py", "--run.dir", "mine", cwd=folder)
    return folder


def test_the_run_keeps_the_file_s_place_and_refuses_to_run_it_unasked(home: Path) -> None:
    config = home / "mine" / "config.yaml"
    assert load_recipe(config, Trust(everything=True)).imports == (str(home / "two_layers.py"),)
    for name, argv in [
        ("evaluate", ["mine"]),
        ("record", ["mine"]),
        ("report", ["mine"]),
        ("train", ["--resume=mine"]),
    ]:
        said = command(name, *argv, cwd=home, code=2)
        assert said.startswith("jaxpg: ")
        assert said.rstrip().endswith(f"it imports {home / 'two_layers.py'}, {NOT_TRUSTED}")
    assert not (home / "mine" / "evaluation.json").exists()


def test_evaluate_record_report_and_resume_know_it(home: Path) -> None:
    said = command("evaluate", "mine", "--episodes", "2", "--trust-imports", cwd=home)
    assert "episodes=2" in said
    command("record", "mine", "--imports", "./two_layers.py", cwd=home)
    (video,) = (home / "mine" / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000
    command("report", "mine", "--trust-imports", cwd=home)
    assert b"two_layers" in (home / "report.html").read_bytes()
    command("train", "--resume", "mine", "--trust-imports", "--run.budget-agent-steps", "64", cwd=home)
    assert records(home / "mine")[-1]["agent_steps"] == 64


@pytest.mark.long
def test_launch_and_videos_beside_the_training_know_it(home: Path) -> None:
    argv = [*TINY, "--imports", "two_layers.py", "--run.dir", "two"]
    command("launch", "--processes", "2", "--", *argv, cwd=home)
    assert len(records(home / "two")) == 2
    command("train", *TINY, "--imports=two_layers.py", "--run.dir", "filmed", "--run.record-every", "2", cwd=home)
    assert [path.stem for path in (home / "filmed" / "videos").glob("*.mp4")] == ["2"]


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
    assert policy.action_names == ("RIGHT", "LEFT")
    batch = np.random.default_rng(0).integers(0, 256, (5, *policy.observation_shape), np.uint8)
    actions, probabilities, value = policy(batch)
    assert (actions.shape, probabilities.shape, value.shape) == ((5,), (5, 2), (5,))
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
        "./broken.py": f"{tmp_path / 'broken.py'}:3: ZeroDivisionError: division by zero",
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
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(name)s|%(message)s')\n"
        "jaxpg.train(config, 'heard')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert all("|" in line and "quiet" not in line for line in lines)
    assert any(line.startswith("jaxpg|iteration=2 agent_steps=16") for line in lines), done.stdout
