"""``python -m jaxpg.export``: policies as functions that programs without jaxpg load and call."""

import hashlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.errors import FaultError
from jaxpg.export import main
from jaxpg.share import onnx_operations
from jaxpg.share.exporting import BatchFunction, onnx_bytes


def _export(*argv: str | Path, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert end.value.code == code


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_a_run_is_exported_with_a_description(uninterrupted: Path, tmp_path: Path, capsys, to: str) -> None:
    path = tmp_path / "new" / "policy"
    _export(uninterrupted, "--to", to, "--out", path, "--checkpoint", "15")
    content, described = path.read_bytes(), json.loads((tmp_path / "new" / "policy.json").read_text())
    assert described["format"] == to
    assert described["sha256"] == hashlib.sha256(content).hexdigest()
    assert (described["game"], described["checkpoint"]) == ("CartPole-v1", 15)
    assert described["actions"] == ["LEFT", "RIGHT"]
    assert described["actions_in_training"] == "sampled"
    assert described["input"]["shape"] == ["B", 4]
    assert described["input"]["dtype"] == "float32"
    assert sorted(file.name for file in path.parent.iterdir()) == ["policy", "policy.json"]
    assert capsys.readouterr().out == (
        f"jaxpg: {uninterrupted}, checkpoint 15: {len(content):,} bytes in {path}, described in {path}.json\n"
    )
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    decision = jaxpg.load_policy(uninterrupted, 15)(observations)
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        assert "CartPole-v1" in session.get_modelmeta().custom_metadata_map["jaxpg"]
        action, probabilities = session.run(None, {"observation": observations})
    else:
        action, probabilities = jax.export.deserialize(content).call(observations)
    np.testing.assert_array_equal(action, decision.action)
    np.testing.assert_allclose(probabilities, decision.probabilities, atol=1e-6)


def test_a_policy_that_onnx_cannot_express_is_a_sentence(
    uninterrupted: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.delitem(onnx_operations.OPERATIONS, "dot_general")
    (tmp_path / "policy.onnx").write_text("an older one")
    _export(uninterrupted, "--to", "onnx", "--out", tmp_path / "policy.onnx", code=2)
    said = "to: ONNX cannot express this policy: it has JAX's operation dot_general; export it with --to stablehlo"
    assert capsys.readouterr().err == f"jaxpg: {said}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["policy.onnx"]
    assert (tmp_path / "policy.onnx").read_text() == "an older one"


def test_a_model_that_computes_something_else_is_not_written(monkeypatch) -> None:
    operation = onnx_operations.OPERATIONS["tanh"]
    monkeypatch.setitem(onnx_operations.OPERATIONS, "exp", operation)

    def softmax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x.argmax(axis=-1).astype("int32"), jax.nn.softmax(x)

    with pytest.raises(FaultError, match="ONNX Runtime's probabilities differ from JAX's by"):
        onnx_bytes(BatchFunction(softmax, (3,), np.dtype("float32")), "{}")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_a_sentence_says_how_to_install_it(
    uninterrupted, tmp_path, capsys, monkeypatch, package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    _export(uninterrupted, "--to", "onnx", "--out", tmp_path / "x", code=2)
    assert capsys.readouterr().err == (
        f"jaxpg: to: onnx needs the package {package}, which is not installed; pip install 'jaxpg[onnx]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_or_read_is_a_sentence(uninterrupted: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    for words, said in (
        ((uninterrupted, "--out", tmp_path), f"out: {tmp_path} is a folder; give the name of a file"),
        ((uninterrupted, "--out", tmp_path / "file" / "x"), f"{tmp_path}/file/x: cannot be written: "),
        ((tmp_path, "--out", tmp_path / "x"), f"{tmp_path}: no run: it has no config.yaml"),
        (
            (uninterrupted, "--checkpoint", "7", "--out", tmp_path / "x"),
            f"{uninterrupted}/checkpoints: no checkpoint of",
        ),
        ((uninterrupted, "--to", "tflite"), "invalid choice 'tflite'"),
    ):
        _export(*words, code=2)
        assert said in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
