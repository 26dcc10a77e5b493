"""The command line: flags over recipe over defaults, help for every setting, one sentence for every mistake."""

import dataclasses
import re
import signal
import sys
from pathlib import Path

import pytest

from jaxpg.cli import parse, parse_train
from jaxpg.config import Config, RunConfig, dump, load_run, with_schedule
from jaxpg.core.errors import UserError
from jaxpg.evaluate import EvaluateArguments
from jaxpg.record import RecordArguments
from jaxpg.report import ReportArguments
from jaxpg.run.run_folder import new_run_folder
from jaxpg.share.exporting import ExportArguments
from jaxpg.share.pushing import PushArguments
from jaxpg.share.release import ReleaseArguments
from jaxpg.suite import SuiteArguments
from jaxpg.suite.tuning import TuneArguments
from jaxpg.train import main
from tests.runs import ONE_ITERATION, nobody_reads_stdout


def settings(section=Config, prefix="") -> list[tuple[str, str]]:
    """Every flag with the docstring under its field."""
    found = []
    source = Path(sys.modules[section.__module__].__file__).read_text()
    body = source[source.index(f"class {section.__name__}") :]
    for field in dataclasses.fields(section):
        if field.name == "config" or not field.metadata.get("is_flag", True):
            continue
        if dataclasses.is_dataclass(field.type):
            found += settings(field.type, f"{prefix}{field.name}.")
        else:
            docstring = re.search(rf'\n    {field.name}: [^\n]*\n    """(.*?)"""', body, re.DOTALL)
            assert docstring, f"{section.__name__}.{field.name} has no docstring"
            found.append((f"--{prefix}{field.name}".replace("_", "-"), " ".join(docstring[1].split())))
    return found


def squeezed(text: str) -> str:
    """Text without frames, line ends and spaces, which depend on the terminal's width."""
    return re.sub(r"[\s│|╭╮╰╯─]", "", text)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file with its content, and every folder; without the bytecode that Python writes beside a user's module."""
    found = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in found}


@pytest.fixture
def refusal(tmp_path, monkeypatch, capfd):
    """Runs the command, checks that it refused in one sentence and left nothing behind; gives the sentence."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> str:
        before = tree(tmp_path)
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(argv)
        said = capfd.readouterr().err
        assert end.value.code == 2, said
        assert said.startswith("jaxpg: ")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        assert tree(tmp_path) == before
        return said.removeprefix("jaxpg: ").rstrip("\n")

    return run


@pytest.fixture
def run_folder(tmp_path):
    """The folder of a finished small run."""
    folder = tmp_path / "run"
    with nobody_reads_stdout(), pytest.raises(SystemExit) as end:
        main([*ONE_ITERATION, "--run.dir", str(folder)])
    assert end.value.code == 0
    return folder


def test_flags_go_over_the_recipe_and_the_recipe_over_the_defaults(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("env: {game: Breakout, num_lanes: 8, actions: [0, 1]}\npolicy: {hidden: [64, 64], bias: false}\n")
    argv = ["--env.num-lanes", "16", str(recipe), "--policy.bias", "--optimizer.options", "eps", "1e-5"]
    config = parse_train(argv).config
    assert (config.env.game, config.env.num_lanes, config.env.actions) == ("Breakout", 16, (0, 1))
    assert (config.policy.hidden, config.policy.bias) == ((64, 64), True)
    assert config.optimizer.options == {"eps": 1e-5}
    assert config.run == with_schedule(Config()).run


def test_a_flag_can_go_back_to_the_default_that_the_recipe_changed(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("env: {num_lanes: 8}\nrun: {target_return: 5.0}\n")
    config = parse_train([str(recipe), "--env.num-lanes", "64", "--run.target-return", "None"]).config
    assert (config.env.num_lanes, config.run.target_return) == (64, None)


def test_flags_go_over_the_configuration_of_a_resumed_run(tmp_path):
    config = Config()
    (tmp_path / "config.yaml").write_text(
        dump(dataclasses.replace(config, env=dataclasses.replace(config.env, num_lanes=8)))
    )
    arguments = parse_train(["--resume", str(tmp_path), "--run.seed", "7"])
    assert arguments.resume == str(tmp_path)
    assert (arguments.config.env.num_lanes, arguments.config.run.seed) == (8, 7)


def test_the_schedules_keep_the_length_that_they_had_when_the_run_was_created(tmp_path):
    """An older version left 0 for the budget in config.yaml."""

    def length(*argv):
        return parse_train(argv).config.run.schedule_agent_steps

    recipe, longer = tmp_path / "recipe.yaml", ("--run.budget-agent-steps", "2000")
    recipe.write_text("run: {budget_agent_steps: 1000}\n")
    assert length(str(recipe)) == 1000
    assert length(str(recipe), *longer) == 2000, "nothing has begun yet"
    for kept in (0, 1000):
        config = parse_train([str(recipe)]).config
        run = dataclasses.replace(config.run, schedule_agent_steps=kept)
        (tmp_path / "config.yaml").write_text(dump(dataclasses.replace(config, run=run)))
        resumed = ("--resume", str(tmp_path))
        assert length(*resumed) == length(*resumed, *longer) == 1000
        assert length(*resumed, *longer, "--run.schedule-agent-steps", "500") == 500, "the user's choice"


def test_every_setting_has_a_flag_and_its_docstring_as_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = squeezed(capsys.readouterr().out)
    expected = settings()
    assert len(expected) > 40
    for flag, docstring in expected:
        assert squeezed(flag) in shown.replace("--no-", "--"), flag
        assert squeezed(docstring) in shown, flag
    assert "--resumeRUN_DIR" in shown
    assert "[RECIPE.yaml]" in shown


NEAREST = [
    (["--env.game", "Pnog"], "env.game: unknown name 'Pnog'; did you mean 'Pong'?"),
    (["--env.game", "pong"], "env.game: unknown name 'pong'; did you mean 'Pong'?"),
    (["--env.backend", "ale", "--env.game", "Pnog"], "env.game: unknown name 'Pnog'; did you mean 'Pong'?"),
    (["--env.backend", "envpol"], "env.backend: unknown name 'envpol'; did you mean 'envpool'?"),
    (["--policy.name", "mpl"], "policy.name: unknown name 'mpl'; did you mean 'mlp'?"),
    (
        ["--observation.name", "gray_diference"],
        "observation.name: unknown name 'gray_diference'; did you mean 'gray_difference'?",
    ),
    (["--optimizer.name", "adm"], "optimizer.name: unknown name 'adm'; did you mean 'adam'?"),
    (["--optimizer.options", "epz", "1"], "optimizer.options of adam: unknown name 'epz'; did you mean 'eps'?"),
    (["--env.gmae", "Pong"], "unknown flag --env.gmae; did you mean '--env.game'?"),
    (["--learning-rate", "1"], "unknown flag --learning-rate; did you mean '--optimizer.learning-rate'?"),
    (["--run.seed", "1", "--env.lanes=3"], "unknown flag --env.lanes=3; did you mean '--env.num-lanes'?"),
]


@pytest.mark.parametrize(("argv", "sentence"), NEAREST, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_an_unknown_name_is_refused_with_the_nearest(argv, sentence, refusal):
    assert refusal(*argv) == sentence


@pytest.mark.parametrize("argv", [["--run", "x"], ["--run=x"], ["x", "--runs", "y"]], ids=" ".join)
@pytest.mark.parametrize(("name", "what"), [("evaluate", "run folder"), ("report", "run folder or more")])
def test_what_is_given_without_a_flag_is_never_suggested_as_one(name: str, what: str, argv: list[str]) -> None:
    arguments = {"evaluate": EvaluateArguments, "report": ReportArguments}[name]()
    (flag,) = [word for word in argv if word.startswith("--")]
    with pytest.raises(UserError, match=f"^unknown flag {flag}; give the {what} without a flag before it$"):
        parse(name, argv, arguments)


def test_a_name_like_no_other_is_refused_with_all_names(refusal, monkeypatch):
    monkeypatch.setattr("jaxpg.core.user_modules._IMPORTED", {})
    said, names, own = refusal("--env.backend", "x").split("; ")
    assert said == "env.backend: unknown name 'x'"
    assert {"ale", "envpool", "gymnasium", "gymnax", "probe"} <= set(names.removeprefix("valid names are ").split(", "))
    assert own == "one of your own is registered by a file or module in imports (--imports FILE)"
    Path("forgets.py").touch()
    file = str(Path("forgets.py").absolute())
    assert refusal("--imports", "forgets.py", "--env.backend", "x").endswith(f"; {file} registers no such name")


WRONG = [
    (["--reinforce.baseline", "mean"], "'mean' for argument '--reinforce.baseline'. Expected one of ('none', 'batch',"),
    (["--env.num-lanes", "many"], "Error parsing --env.num-lanes: 'many' is no whole number"),
    (["--run.target-return", "x"], "Error parsing --run.target-return: "),
    (["--env.game"], "Missing value for argument '--env.game'. Expected 1 values"),
    (["--env.num-lanes", "0"], "env.num_lanes: input should be greater than or equal to 1, not 0"),
    (["--optimizer.learning-rate", "-0.1"], "optimizer.learning_rate: input should be greater than 0, not -0.1"),
    (["--optimizer.learning-rate", "nan"], "optimizer.learning_rate: input should be a finite number, not nan"),
    (["--observation.name", "vector"], "observation.name: Pong is an Atari game, which gives pixels or ram, no vector"),
    (
        ["--env.game", "CartPole-v1", "--observation.name", "ram"],
        "observation.name: CartPole-v1 gives a vector of numbers; use --observation.name v",
    ),
    (
        ["--env.backend", "ale", "--observation.name", "vector"],
        "observation.name: the ale backend gives pixels or ram, not a vector;",
    ),
    (["--env.backend", "probe", "--env.game", "Count"], "observation.name: a probe gives a vector, not pixels;"),
    (["--reinforce.td-lambda", "0.9", "--reinforce.baseline", "ema"], "reinforce.td_lambda: 0.9 needs reinforce.basel"),
    (["--env.num-pools", "3"], "env.num_pools: 3 pools cannot share 32 lanes evenly"),
    (["--env.actions", "0", "9"], "env.actions: 9 is not an action of this game; its actions are 0 to 5: NOOP"),
    (["--env.actions", "UP", "LEFT"], "env.actions: UP is not an action of this game; its actions are 0 to 5"),
    (
        ["--env.game", "Nonsense-v2"],
        "unknown name 'Nonsense-v2'; envpool offers 104 Atari games, such as Pong and Breakout, and",
    ),
    (["--budget", "8000"], "did you mean '--run.budget-agent-steps' or '--run.budget-episodes' or '--run"),
    (["--env.game", "LunarLandr-v3"], "did you mean 'LunarLander-v3'"),
    (
        ["--env.game", "Nonsense", "--env.backend", "ale"],
        "'Nonsense'; ale offers 104 Atari games, such as Pong and Breakout; your own needs --imports FILE and",
    ),
    (
        ["--env.game", "Acrobot-v1", "--env.backend", "ale"],
        "env.game: ale has no 'Acrobot-v1', but Gymnasium has; add --env.backend gymnasium",
    ),
    (["--env.game", "ALE/Pong-v5"], "env.game: unknown name 'ALE/Pong-v5'; did you mean 'Pong'?"),
    (["--env.actions", "2", "2"], "env.actions: [2, 2] names an action twice"),
    (["--env.actions", "LEFT"], "env.actions: LEFT alone leaves nothing to choose; give two actions or more"),
    (["--observation.first-row", "64"], "observation.first_row: rows 64 to 64 are not inside 0 to 70"),
    (["--env.noop-max", "0"], "env.noop_max: EnvPool needs at least 1"),
    (["--resume", "nowhere"], "nowhere: no run to resume: there is no such folder"),
    (["--resume", "x" * 300], "no run to resume: there is no such folder"),
    (["--resume", "a", "b.yaml"], "a recipe and --resume exclude each other"),
    (["nowhere.yaml"], "nowhere.yaml: cannot read the recipe: No such file or directory"),
    (
        ["pong", "--policy.bias", "false"],
        "unexpected argument 'false'; a setting that is on or off is given as --x.y or",
    ),
    (["--recipe", "pong"], "unknown flag --recipe; give the recipe without a flag before it"),
    (["pong", "b.yaml"], "unexpected argument 'b.yaml'; give one recipe, then flags such as --env.game Pong"),
]


@pytest.mark.parametrize(("argv", "sentence"), WRONG, ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else "")
def test_a_wrong_setting_is_refused(argv, sentence, refusal):
    assert sentence in refusal(*argv)


def test_the_sentence_is_the_same_on_a_narrow_terminal_and_where_stdout_is_not_utf8(refusal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert refusal("--env.gmae", "Pong") == "unknown flag --env.gmae; did you mean '--env.game'?"
    assert refusal("--env.num-lanes", "x") == ("Error parsing --env.num-lanes: 'x' is no whole number")
    monkeypatch.setattr(sys, "stdout", open("/dev/null", "w", encoding="ascii"))  # noqa: SIM115
    try:
        assert refusal("--env.gmae", "Pong") == "unknown flag --env.gmae; did you mean '--env.game'?"
        assert refusal("--env.game") == "Missing value for argument '--env.game'. Expected 1 values"
    finally:
        sys.stdout.close()


def test_a_recipe_that_is_not_yaml_is_refused(refusal, tmp_path):
    (tmp_path / "bad.yaml").write_text("env: [\n")
    assert refusal("bad.yaml").startswith("bad.yaml:2:1: not YAML: ")
    (tmp_path / "typo.yaml").write_text("env:\n  gmae: Pong\n")
    assert refusal("typo.yaml") == "typo.yaml:2:3: env.gmae: unknown key; did you mean 'game'?"


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("file/run", "run.dir: cannot write file/run: Not a directory"),
        ("file", "run.dir: cannot write file: File exists"),
        ("/proc/jaxpg/run", "run.dir: cannot write /proc/jaxpg/run: No such file or directory"),
        ("x" * 300, "File name too long"),
        ("used", "run.dir: used is not empty; choose another folder"),
    ],
)
def test_a_folder_that_cannot_hold_the_run_is_refused(folder, sentence, refusal, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").touch()
    assert sentence in refusal(*ONE_ITERATION, "--run.dir", folder)


def test_a_name_that_no_folder_can_have_is_refused(refusal, tmp_path):
    (tmp_path / "recipe.yaml").write_text('run: {dir: "a\\0b"}\n')
    assert refusal("recipe.yaml", *ONE_ITERATION) == "run.dir: 'a\\x00b' is no name of a folder"


def test_a_folder_that_holds_a_run_is_refused_and_stays_as_it_was(refusal, run_folder, tmp_path):
    sentence = refusal(*ONE_ITERATION, "--run.dir", "run")
    assert sentence == "run.dir: run holds a run already; go on with --resume run or choose another folder"
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "config.yaml").touch()
    assert "go on with --resume 'my run' or choose" in refusal(*ONE_ITERATION, "--run.dir", "my run")


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_built(refusal, run_folder, monkeypatch):
    monkeypatch.setattr("jaxpg.train.build", lambda *_, **__: pytest.fail("built"))
    assert refusal(*ONE_ITERATION, "--run.dir", "run").startswith("run.dir: run holds a run already")


def test_a_resumed_run_is_given_its_own_folder_and_no_other_place(refusal, tmp_path):
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    for place in ("run/config.yaml", "run/checkpoints", "run/checkpoints/1"):
        assert refusal("--resume", place).endswith("it has no config.yaml; did you mean 'run'?")
        with pytest.raises(UserError, match="no run: it has no config.yaml; did you mean 'run'"):
            load_run(place)
    sentence = refusal("--resume", "run", "--run.dir", "other")
    assert sentence.startswith("--run.dir: a resumed run stays in its folder, run; leave --run.dir out, or copy")
    assert parse_train(["--resume", "run", "--run.dir", "run"]).resume == "run"


def test_a_working_folder_that_is_gone_matters_only_to_relative_paths(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert parse_train(["cartpole", "--run.dir", str(tmp_path / "x")]).config.env.game == "CartPole-v1"
    with pytest.raises(UserError, match="imports: './mine.py': this is not a valid path: .*No such file"):
        parse_train(["cartpole", "--imports", "./mine.py"])


def test_another_architecture_on_resume_is_refused_and_the_run_stays_as_it_was(refusal, run_folder):
    sentence = refusal("--resume", "run", "--policy.hidden", "5")
    assert re.search(
        r"another architecture: \S+ is of shape \[4, 2\] there, but of shape \[5, 2\] in the conf", sentence
    )


def test_a_mistake_leaves_no_signal_handler_behind(refusal):
    before = [signal.getsignal(number) for number in (2, 15)]
    refusal("--env.num-lanes", "0")
    assert [signal.getsignal(number) for number in (2, 15)] == before


def test_parse_train_raises_instead_of_ending_the_process():
    with pytest.raises(UserError, match="unknown flag"):
        parse_train(["--nonsense"])


def test_a_tilde_is_the_home_folder_wherever_a_folder_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A shell sees to it at the beginning of a word alone, and nothing does in a recipe."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_train(["--run.dir=~/x", "--env.game", "Pong"]).config.run.dir == f"{tmp_path}/x"
    assert parse_train(["--run.dir", "~/x"]).config.run.dir == f"{tmp_path}/x"
    assert parse_train(["--run.dir=x/~/y"]).config.run.dir == "x/~/y"
    assert new_run_folder(Config(run=RunConfig(dir="~/x"))) == tmp_path / "x"
    with pytest.raises(UserError, match=f"^{tmp_path}/x: no run to resume"):
        parse_train(["--resume=~/x"])
    with pytest.raises(UserError, match=f"^{tmp_path}/x.yaml: cannot read the recipe"):
        parse_train(["~/x.yaml"])
    report = parse("report", ["~/a", "~", "--out=~/b.html", "--png=~/c"], ReportArguments())
    assert report.runs == (f"{tmp_path}/a", str(tmp_path))
    assert (report.out, report.png) == (f"{tmp_path}/b.html", f"{tmp_path}/c")
    assert parse("record", ["~/a", "--out=~/b.mp4"], RecordArguments()).out == f"{tmp_path}/b.mp4"
    assert parse("evaluate", ["~/a"], EvaluateArguments()).run == f"{tmp_path}/a"


@pytest.mark.parametrize(
    "command",
    [
        *(EvaluateArguments, RecordArguments, ReportArguments, ExportArguments, PushArguments, ReleaseArguments),
        *(SuiteArguments, TuneArguments),
    ],
)
def test_where_imports_may_be_trusted_others_may_be_given_as_the_refusal_says(command: type) -> None:
    assert {"imports", "trust_imports"} <= {field.name for field in dataclasses.fields(command)}
