"""Names of run folders that nobody chose."""

import time

from jaxpg.cli import parse_train
from jaxpg.run.run_folder import new_run_folder


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
