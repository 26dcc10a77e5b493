"""Tests of the sentences about what is not there."""

import pytest

from jaxpg.core.errors import nearest, no_run


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("runs/mnie", "there is no such folder; did you mean 'runs/mine'?"),
        ("runs/other", "there is no such folder"),
        ("runs/mine/videos", "it has no config.yaml; did you mean 'runs/mine'?"),
        ("runs/mine/video", "there is no such folder; did you mean 'runs/mine'?"),
        ("runs", "it has no config.yaml; it holds runs, such as runs/mine"),
        ("runs/mine2", "it has no config.yaml; did you mean 'runs/mine'?"),
        ("nowhere/mine", "there is no such folder"),
        ("x" * 300, "there is no such folder"),
    ],
)
def test_a_folder_without_a_run_is_described_and_the_nearest_run_named(place, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine" / "videos").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").touch()
    (tmp_path / "runs" / "mine2").mkdir()  # nearer, but no run
    assert no_run(type(tmp_path)(place)) == words


def test_a_part_of_several_names_is_near_to_all_and_a_short_part_to_none():
    flags = ["--run.record-every", "--run.record-episodes", "--env.game", "--learn.lr"]
    assert nearest("--reco", flags) == "; did you mean '--run.record-every' or '--run.record-episodes'?"
    assert nearest("--lr", flags).startswith("; valid names are")
