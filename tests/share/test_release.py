"""``python -m jaxpg.share.release``: the best policies of a suite, each a folder that every command reads."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import jaxpg
from jaxpg.scores.suite_file import SUITE_FILE, SuiteResults, write_suite
from jaxpg.share.release import main
from tests.suite_rows import made_row


def _release(suite: Path, out: Path, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(suite), "--out", str(out)])
    assert end.value.code == code


def _suite(folder: Path, evaluated: Path, *folders: str) -> Path:
    """A suite of two recipes on CartPole, of which only the named folders are there."""
    rows = [
        made_row("plain", "CartPole-v1", 1, 20.0),
        made_row("plain", "CartPole-v1", 2, 30.0),
        made_row("plain", "CartPole-v1", 3, 90.0, failure="it failed"),
        made_row("odd", "a/b", 1, 5.0, folder="odd-a_b-1"),
        made_row("odd", "c", 1, None),
    ]
    folder.mkdir()
    write_suite(folder / SUITE_FILE, SuiteResults(episodes=6, checkpoint="latest", rows=rows))
    for name in folders:
        shutil.copytree(evaluated, folder / name)
    return folder


def test_the_best_of_each_recipe_and_game_is_packed_with_its_card(evaluated: Path, tmp_path: Path, capsys) -> None:
    suite = _suite(tmp_path / "suite", evaluated, "plain-CartPole-v1-2", "odd-a_b-1")
    out = tmp_path / "pretrained"
    _release(suite, out)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "odd-a_b", "plain-CartPole-v1"]
    table = (out / "README.md").read_text()
    assert (
        "| [plain-CartPole-v1](plain-CartPole-v1/README.md) | CartPole-v1 | plain | 2 | 30.00 | sampled | 5 |" in table
    )
    card = ModelCard((out / "plain-CartPole-v1" / "README.md").read_text())
    assert card.data.eval_results
    assert "the best of 2 seeds" in card.text
    assert "the best of" not in (out / "odd-a_b" / "README.md").read_text()
    before = json.loads((out / "plain-CartPole-v1" / "evaluation.json").read_text())
    assert [jaxpg.evaluate(out / "plain-CartPole-v1", episodes=6, seed=3).returns] == [one["returns"] for one in before]
    with tarfile.open(f"{out}.tar.gz") as archive:
        names = archive.getnames()
    assert "pretrained/plain-CartPole-v1/config.yaml" in names
    assert "pretrained/odd-a_b/videos/20.mp4" in names
    _release(suite, out, code=2)
    assert capsys.readouterr().err == f"jaxpg: out: {out} exists already; choose another folder\n"


def test_a_run_that_cannot_be_packed_leaves_nothing_half_written(evaluated: Path, tmp_path: Path, capsys) -> None:
    suite = _suite(tmp_path / "suite", evaluated, "plain-CartPole-v1-2")
    _release(suite, tmp_path / "out", code=2)
    assert capsys.readouterr().err == f"jaxpg: {suite}/odd-a_b-1: no run: there is no such folder\n"
    _release(tmp_path, tmp_path / "out", code=2)
    assert capsys.readouterr().err == f"jaxpg: {tmp_path}/suite.json: cannot be read as the results of a suite\n"
    assert [path.name for path in tmp_path.iterdir()] == ["suite"]
