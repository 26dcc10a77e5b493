"""``jaxpg push`` and ``jaxpg pull``, through a hub on this machine."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import jaxpg
from jaxpg.config import load_hashes
from jaxpg.share import packing
from jaxpg.share.packing import CARD, CONFIG, EVALUATION, MANIFEST, digest_of
from tests.share.hub_commands import error, pull, push
from tests.share.hub_stand_in import Hub


def test_push_pull_and_evaluate_give_the_same_score(
    hub: Hub, evaluated: Path, pushed_files: dict[str, bytes], tmp_path: Path, capsys
) -> None:
    push(evaluated)
    out, err = capsys.readouterr()
    said, files = out.splitlines(), hub.repositories["me/pole"].files
    assert not err
    assert files == {".gitattributes": b"", **pushed_files}
    digest = digest_of(files[MANIFEST])
    assert said[-2:] == [
        f"jaxpg: checkpoint 20, {len(files) - 1} files of {evaluated} are at {hub.url}/me/pole",
        f"jaxpg: digest {digest}, for python -m jaxpg.pull me/pole --digest",
    ]
    assert not hub.repositories["me/pole"].private
    assert files["replay.mp4"] == (evaluated / "videos" / "20.mp4").read_bytes()
    assert str(evaluated.parent).encode() not in b"".join(files.values()), "no folder of the author's machine"
    folder = tmp_path / "pulled"
    pull("--out", folder, "--digest", digest)
    assert capsys.readouterr().out.splitlines() == [f"jaxpg: me/pole: checkpoint 20 of CartPole-v1 is in {folder}"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [CARD, CONFIG, EVALUATION, MANIFEST, "checkpoints", "videos"]
    )
    assert (folder / "videos" / "20.mp4").read_bytes() == files["replay.mp4"]
    before = json.loads((folder / EVALUATION).read_text())
    again = jaxpg.evaluate(folder, episodes=6, seed=3)
    assert [again.returns] == [one["returns"] for one in before]
    assert len(json.loads((folder / EVALUATION).read_text())) == 1, "the same evaluation, played again"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_card_is_what_leaderboards_read(pushed: Hub, evaluated: Path) -> None:
    (score,) = json.loads((evaluated / EVALUATION).read_text())
    card = ModelCard(pushed.repositories["me/pole"].files[CARD].decode())
    (result,) = card.data.eval_results
    assert (card.data.model_name, card.data.library_name) == ("pole", "jaxpg")
    assert {"reinforcement-learning", "CartPole-v1"} <= set(card.data.tags)
    assert (result.task_type, result.dataset_name, result.metric_type) == (
        "reinforcement-learning",
        "CartPole-v1",
        "mean_reward",
    )
    mean, spread = map(float, result.metric_value.split("+/-"))
    assert mean == pytest.approx(score["mean"], abs=0.005)
    assert spread >= 0
    assert f"| sampled | 3 | 6 | {score['mean']:.2f} |" in card.text
    assert "python -m jaxpg.pull me/pole --out runs/pole\npython -m jaxpg.evaluate runs/pole\n" in card.text
    assert "LEFT, RIGHT" in card.text


def test_a_repeated_push_changes_nothing_and_a_new_one_replaces_the_checkpoint(
    pushed: Hub, evaluated: Path, tmp_path: Path, capsys
) -> None:
    repository = pushed.repositories["me/pole"]
    push(evaluated)
    assert f"{pushed.url}/me/pole has checkpoint 20" in capsys.readouterr().out
    assert len(repository.commits) == 1
    repository.add("main", {**repository.files, "notes.txt": b"mine", "a.py": b"raise SystemExit(9)"})
    (tmp_path / "note.md").write_text("Trained on a train.")
    push(evaluated, "--checkpoint", "15", "--no-scores", "--message", "older", "--card", tmp_path / "note.md")
    assert f"no video; python -m jaxpg.record {evaluated} --checkpoint 15" in capsys.readouterr().out
    assert repository.messages[-1] == "older"
    names = set(repository.files)
    assert {name.split("/")[1] for name in names if name.startswith("checkpoints/")} == {"15"}
    assert not names & {"replay.mp4", "replay.json", EVALUATION}
    assert repository.files["notes.txt"] == b"mine"
    assert "Trained on a train." in repository.files[CARD].decode()
    assert "has not been evaluated" in repository.files[CARD].decode()
    pull("--out", tmp_path / "pulled")
    assert "files that belong to no run were left out: a.py, notes.txt" in capsys.readouterr().out
    assert not (tmp_path / "pulled" / "a.py").exists()


def test_a_branch_and_a_private_repository(hub: Hub, evaluated: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    push(evaluated, "--private", "--revision", "try")
    repository = hub.repositories["me/pole"]
    assert repository.private
    assert set(repository.files) == {".gitattributes"}
    pull("--out", tmp_path / "main", code=2)
    pull("--out", tmp_path / "try", "--revision", "try")
    capsys.readouterr()
    pull("--out", tmp_path / "other", "--revision", "nowhere", code=2)
    assert error(capsys) == "me/pole: there is no such revision; nothing was written"
    monkeypatch.delenv("HF_TOKEN")
    pull("--out", tmp_path / "other", "--revision", "try", code=2)
    assert error(capsys) == (
        f"me/pole: there is no such repository at {hub.url}, or your token does not open it; nothing was written"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["try"]


def test_files_of_ones_own_are_named_without_their_folder(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(
        "imports: [/home/me/mine.py, parts.mine]\nrun: {dir: /home/me/runs/x, seed: 4}\n"
        "imports_sha256: {/home/me/mine.py: abc, parts.mine: def}\n"
    )
    text, needed = packing.shared_config(tmp_path / CONFIG)
    assert needed == ["./mine.py", "parts.mine"]
    assert b"/home" not in text
    assert b"seed: 4" in text
    (tmp_path / CONFIG).write_bytes(text)
    assert load_hashes(tmp_path / CONFIG) == {"./mine.py": "abc", "parts.mine": "def"}


def test_without_an_evaluation_a_sentence_names_the_command(hub: Hub, uninterrupted: Path, capsys) -> None:
    push(uninterrupted, code=2)
    assert error(capsys) == (
        f"{uninterrupted}: no evaluation of checkpoint 20; play games with python -m jaxpg.evaluate {uninterrupted} "
        "--checkpoint 20 first, or say --no-scores"
    )
    assert not hub.repositories


def test_tokens(hub: Hub, evaluated: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    push(evaluated, code=2)
    assert "me/pole: the token is wrong or has expired" in error(capsys)
    monkeypatch.delenv("HF_TOKEN")
    push(evaluated, code=2)
    assert error(capsys) == "no token of the Hugging Face Hub: set HF_TOKEN, or call hf auth login"
    assert not hub.repositories


def test_names(hub: Hub, evaluated: Path, tmp_path: Path, capsys) -> None:
    hub.make("me/other", {"weights.bin": b"1"})
    hub.make("you/open", {MANIFEST: b"{}"})
    hub.make("you/hidden", {}, private=True)
    hub.make("me/empty", {})
    for to, said in (
        ("me/other", "to: me/other exists already and holds something else, such as weights.bin; choose another name"),
        ("you/open", "you/open: your token may not write there (you may not write); nothing of it is visible"),
        ("you/hidden", "you/hidden: your token may not write there (You don't have the rights"),
        ("pole", "to: 'pole' is no name of a repository; give user/name, such as me/pong"),
        ("me/..", "to: 'me/..' is no name of a repository"),
        ("me/a--b", "me/a--b: "),
    ):
        push(evaluated, to=to, code=2)
        assert error(capsys).startswith(said)
    push(evaluated, "--private", to="me/empty", code=2)
    assert error(capsys) == (
        "to: me/empty exists already and is public; choose another name, or make it private on the hub"
    )
    assert set(hub.repositories["me/other"].files) == {".gitattributes", "weights.bin"}
    assert set(hub.repositories) == {"me/other", "you/open", "you/hidden", "me/empty"}
    (tmp_path / "there").mkdir()
    pull("--out", tmp_path / "there", code=2)
    assert error(capsys) == f"out: {tmp_path / 'there'} exists already; choose another folder with --out"
    pull(name="me/nobody", code=2)
    assert error(capsys).startswith("me/nobody: there is no such repository at ")


def test_a_card_that_is_too_large(hub: Hub, evaluated: Path, tmp_path: Path, capsys) -> None:
    note = tmp_path / "note.md"
    for size, said in (
        (2_000_000, f"card: {note} is larger than 1,000,000 bytes; write a shorter one"),
        (999_999, "card: README.md would have 1,00"),
        (500_000, "me/pole: a file is larger than the hub accepts (README.md is too large); nothing of it is visible"),
    ):
        note.write_text("x" * size)
        push(evaluated, "--card", note, code=2)
        assert error(capsys).startswith(said)
    assert all(set(repository.files) == {".gitattributes"} for repository in hub.repositories.values())
    note.write_bytes(b"\xff")
    push(evaluated, "--card", note, code=2)
    assert error(capsys) == f"card: {note} is not UTF-8 text (byte 0)"


def test_no_network(hub: Hub, evaluated: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    push(evaluated, code=2)
    assert error(capsys).startswith("me/pole: no connection to http://127.0.0.1:9: ")
    pull("--out", tmp_path / "x", code=2)
    assert error(capsys).endswith("; nothing was written")
    assert not list(tmp_path.iterdir())


CALLS = ("/lfs/", "/api/models/me/pole/commit/", "/api/models/me/pole/preupload/", "/me/pole.git/info/lfs")
INTERRUPTIONS = [("/lfs/", 0)] + [
    pytest.param(call, status, marks=pytest.mark.long)
    for call in CALLS
    for status in (0, 500)
    if call != "/lfs/" or status
]


@pytest.mark.parametrize(("call", "status"), INTERRUPTIONS)
def test_an_interrupted_upload_goes_on(
    hub: Hub, evaluated: Path, tmp_path: Path, capsys, call: str, status: int
) -> None:
    def fails(method: str, path: str) -> int | None:
        if not path.startswith(call) or (call == "/lfs/" and len(hub.blobs) < 2):  # the first files arrive
            return None
        return status

    hub.fails = fails
    push(evaluated, code=2)
    sentence = error(capsys)
    assert (
        "no connection to" in sentence if status == 0 else "answered with error 500 (as the test wants it)" in sentence
    )
    assert sentence.endswith(
        "nothing of it is visible in the repository, and the same command goes on where it stopped"
    )
    assert set(hub.repositories["me/pole"].files) == {".gitattributes"}
    arrived = {f"/lfs/{oid}" for oid in hub.blobs}
    assert bool(arrived) == (call == "/lfs/" or "commit" in call)
    hub.calls.clear()
    hub.fails = lambda method, path: None
    push(evaluated)
    assert not arrived & {path for method, path in hub.calls if method == "PUT"}, "they are not sent twice"
    pull("--out", tmp_path / "pulled")


@pytest.mark.parametrize("status", [0, 500])
def test_an_interrupted_download_leaves_nothing(pushed: Hub, tmp_path: Path, capsys, status: int) -> None:
    pushed.fails = lambda method, path: status if "/state/d/" in path else None
    pull("--out", tmp_path / "pulled", code=2)
    assert error(capsys).endswith("; nothing was written")
    assert not list(tmp_path.iterdir())


def test_too_much_is_not_downloaded(pushed: Hub, tmp_path: Path, capsys) -> None:
    pushed.calls.clear()
    pull("--out", tmp_path / "pulled", "--max-bytes", "5000", code=2)
    assert "bytes are more than 5,000; allow more with --max-bytes" in error(capsys)
    assert not [path for _, path in pushed.calls if "/resolve/" in path and not path.endswith(MANIFEST)]


def test_somebody_elses_push_at_the_same_time_is_noticed(pushed: Hub, evaluated: Path, capsys) -> None:
    repository = pushed.repositories["me/pole"]

    def moves(method: str, path: str) -> None:
        if "/commit/" in path:
            repository.add("main", dict(repository.files))

    pushed.fails = moves
    push(evaluated, "--checkpoint", "15", "--no-scores", code=2)
    assert error(capsys).startswith("me/pole: somebody else has changed it meanwhile (The branch has moved); nothing")


def test_without_the_extra_a_sentence_says_how_to_install_it(evaluated: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = "the Hugging Face Hub needs the package huggingface-hub, which is not installed; pip install 'jaxpg[hub]'"
    push(evaluated, code=2)
    assert error(capsys) == said
    pull(code=2)
    assert error(capsys) == said


def test_a_link_in_a_checkpoint_is_not_followed(hub: Hub, evaluated: Path, tmp_path: Path, capsys) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "run"))
    (folder / "checkpoints" / "20" / ".link").symlink_to("/etc/hostname")
    push(folder, code=2)
    assert error(capsys).endswith("checkpoints/20: the checkpoint is damaged: .link is not a regular file")
    assert not hub.repositories
