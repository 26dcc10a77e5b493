"""``jaxpg pull`` of what somebody has tampered with, or has written to do harm."""

import json
import re
from pathlib import Path

import pytest

import jaxpg
from jaxpg.share.packing import CONFIG, EVALUATION, MANIFEST, digest_of
from tests.share.hub_commands import error, pull, push
from tests.share.hub_stand_in import Hub


def _changed(name: str, change):
    def tamper(files: dict[str, bytes]) -> None:
        files[name] = change(files[name])

    return tamper


def _weights(files: dict[str, bytes]) -> str:
    return max((name for name in files if "/d/" in name), key=lambda name: len(files[name]))


def _flip(files: dict[str, bytes]) -> None:
    name = _weights(files)
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])


def _in_manifest(change):
    def tamper(files: dict[str, bytes]) -> None:
        manifest = json.loads(files[MANIFEST])
        change(manifest)
        files[MANIFEST] = json.dumps(manifest).encode()

    return tamper


def _named(name: str):
    """A file of a name that no run has, with a manifest that vouches for it."""

    def tamper(files: dict[str, bytes]) -> None:
        files[name] = b"evil"
        entry = {"bytes": 4, "sha256": digest_of(b"evil")}
        _in_manifest(lambda manifest: manifest["files"].update({name: entry}))(files)

    return tamper


TAMPERED = {
    "a bit of the weights": (
        _flip,
        r"checkpoints/20/state/.* is not what was pushed: its content differs from jaxpg.json",
    ),
    "a longer file": (
        _changed(EVALUATION, lambda x: x + b" "),
        r"evaluation.json is not what was pushed: it has \d+ bytes",
    ),
    "another score": (
        _changed(EVALUATION, lambda x: x.replace(b'"seed": 3', b'"seed": 4')),
        "evaluation.json is not what",
    ),
    "another setting": (
        _changed(CONFIG, lambda x: x.replace(b"seed: 1", b"seed: 2")),
        "config.yaml is not what was pushed",
    ),
    "a missing file": (lambda files: files.pop(_weights(files)), r"checkpoints/20/.* is missing"),
    "no manifest": (lambda files: files.pop(MANIFEST), "no run of jaxpg: it has no jaxpg.json"),
    "no JSON": (_changed(MANIFEST, lambda x: x[:-9]), "jaxpg.json is damaged or was not made by jaxpg"),
    "a list": (_changed(MANIFEST, lambda x: b"[]"), "jaxpg.json is damaged or was not made by jaxpg"),
    "a huge manifest": (
        _changed(MANIFEST, lambda x: x + b" " * 1_000_000),
        "jaxpg.json has 1,?.* bytes, more than 1,000,000",
    ),
    "a newer format": (
        _in_manifest(lambda m: m.update(format=2)),
        "jaxpg.json is of format 2; a newer version of jaxpg",
    ),
    "no configuration": (_in_manifest(lambda m: m["files"].pop(CONFIG)), "jaxpg.json names no config.yaml"),
    "a negative size": (_in_manifest(lambda m: m["files"][CONFIG].update(bytes=-1)), "jaxpg.json is damaged"),
    "a way out": (_named("checkpoints/20/../../../x"), "which is no file of a shared run"),
    "an absolute name": (_named("/tmp/x"), "'/tmp/x', which is no file of a shared run"),
    "a hidden file": (_named("checkpoints/20/.x"), "'checkpoints/20/.x', which is no file"),
    "code": (_named("mine.py"), "'mine.py', which is no file of a shared run"),
    "a file in the checkpoint": (_named("checkpoints/20/x"), "the checkpoint is damaged: x does not belong to it"),
    "another checkpoint": (_named("checkpoints/21/x"), "'checkpoints/21/x', which is no file of a shared run"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_refused_and_nothing_is_written(
    pushed: Hub, tmp_path: Path, capsys, what: str
) -> None:
    tamper, sentence = TAMPERED[what]
    tamper(pushed.repositories["me/pole"].files)
    pull("--out", tmp_path / "new" / "pulled", code=2)
    assert re.search(f"^me/pole: .*{sentence}", error(capsys))
    assert not list((tmp_path / "new").iterdir())


def test_whoever_has_the_digest_notices_what_its_owner_replaced(
    pushed: Hub, evaluated: Path, tmp_path: Path, capsys
) -> None:
    digest = digest_of(pushed.repositories["me/pole"].files[MANIFEST])
    push(evaluated, "--checkpoint", "15", "--no-scores")
    capsys.readouterr()
    pull("--out", tmp_path / "x", "--digest", digest, code=2)
    assert re.fullmatch(f"me/pole: its digest is [0-9a-f]{{64}}, not {digest}; nothing was written", error(capsys))


@pytest.mark.parametrize("setting", ["run: [", "run: {seed: -1}", "run: {sed: 1}"])
def test_settings_that_cannot_be_read_are_refused(pushed: Hub, tmp_path: Path, capsys, setting: str) -> None:
    files, text = pushed.repositories["me/pole"].files, setting.encode()
    files[CONFIG] = text
    entry = {"bytes": len(text), "sha256": digest_of(text)}
    _in_manifest(lambda manifest: manifest["files"].update({CONFIG: entry}))(files)
    pull("--out", tmp_path / "x", code=2)
    assert error(capsys).startswith("me/pole: config.yaml:1:")
    assert not list(tmp_path.iterdir())


def test_a_pulled_run_runs_no_code(pushed: Hub, tmp_path: Path, capsys) -> None:
    files = pushed.repositories["me/pole"].files
    files["evil.py"] = b"raise SystemExit('code of a stranger')"
    files[CONFIG] = b"imports: [./evil.py, './a;b.py']\n" + files[CONFIG].replace(b"imports: []\n", b"")
    entry = {"bytes": len(files[CONFIG]), "sha256": digest_of(files[CONFIG])}
    _in_manifest(lambda manifest: manifest["files"].update({CONFIG: entry}))(files)
    folder = tmp_path / "pulled"
    pull("--out", folder)
    said = capsys.readouterr().out
    assert "the run needs code that is not part of it; get it, read it, and say --imports " in said
    assert f" --imports {folder}/evil.py '{folder}/a;b.py'\n" in said, "safe in a shell"
    assert not (folder / "evil.py").exists()
    with pytest.raises(jaxpg.UserError, match=r"it imports .*evil.py, .*, which would run that code"):
        jaxpg.evaluate(folder)
