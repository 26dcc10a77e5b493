"""Names of run folders that nobody chose."""

import time
from pathlib import Path

import pytest

from jaxpg.cli import parse_train
from jaxpg.config import Config, RunConfig
from jaxpg.core.errors import UserError
from jaxpg.run.run_folder import begin_anew, new_run_folder


def test_runs_begun_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "20261122-150000")
    config = parse_train(["--env.game", "CartPole-v1", "--run.seed", "3"]).config
    names = []
    for _ in range(3):
        folder = new_run_folder(config)
        assert not folder.exists()
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        names.append(str(folder))
    once = "runs/CartPole-v1-seed3-20261122-150000"
    assert names == [once, f"{once}-2", f"{once}-3"]


STARTED = {"config.yaml": "", "lock": "", "trainer.json": "{}", "metrics.jsonl": "", "episodes.csv": "agent_steps\n"}


@pytest.mark.parametrize(
    ("more", "begins"),
    [
        ({}, True),
        ({"checkpoints/0/state": "", "checkpoints/1.unfinished/state": "", "summary.json": "{}"}, True),
        ({"tensorboard/events": "x"}, True),
        ({"metrics.jsonl": "{}\n"}, False),
        ({"checkpoints/3/state": ""}, False),
        ({"checkpoints/3.damaged/state": ""}, False),
        ({"notes.txt": ""}, False),
        ({"evaluation.json": "[]"}, False),
        ({"trainer.json": None}, False),  # a recipe that the user called config.yaml
    ],
)
def test_only_what_a_start_leaves_that_trained_nothing_is_replaced(
    more: dict[str, str | None], begins: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, config = tmp_path / "run", Config(run=RunConfig(dir=str(tmp_path / "run")))
    for name, text in {**STARTED, **more}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (folder / name).write_text(text)
    before = sorted(folder.rglob("*"))
    if begins:
        assert new_run_folder(config) == folder
        assert sorted(folder.rglob("*")) == before, "nothing is removed before the folder is locked"
        begin_anew(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "trainer.json"]
        assert "begins anew" in capsys.readouterr().out
        return
    with pytest.raises(UserError, match="run.dir: .* holds a run already; go on with --resume"):
        new_run_folder(config)
    if more != {"trainer.json": None}:  # by the time of the lock it is there
        with pytest.raises(UserError, match="holds a run by now; choose another folder"):
            begin_anew(folder)
    assert sorted(folder.rglob("*")) == before
