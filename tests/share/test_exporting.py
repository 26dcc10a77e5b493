"""``python -m jaxpg.export``: policies as functions that programs without jaxpg load and call."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.config import Config, RunConfig
from jaxpg.core.errors import FaultError
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import Player, build
from jaxpg.export import main
from jaxpg.kernel.trained_policy import TrainedPolicy
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from jaxpg.share import onnx_operations
from jaxpg.share.exporting import BatchFunction, onnx_bytes, stablehlo_bytes
from tests.helpers import SMALL

LANES, STEPS = 8, 125
ALONE = """
import sys

class NoJaxpg:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "jaxpg":
            raise ImportError("this process has no jaxpg")

sys.meta_path.insert(0, NoJaxpg())
import numpy as np, onnxruntime
from jax import export

for folder in sys.argv[1:]:
    observations = np.load(folder + "/observations.npy")
    with open(folder + "/policy.stablehlo", "rb") as file:
        function = export.deserialize(file.read())
    assert function.platforms == ("cpu", "cuda", "tpu")
    action, probabilities = function.call(observations)
    np.savez(folder + "/stablehlo.npz", action=action, probabilities=probabilities)
    session = onnxruntime.InferenceSession(folder + "/policy.onnx", providers=["CPUExecutionProvider"])
    action, probabilities = session.run(["action", "probabilities"], {"observation": observations})
    np.savez(folder + "/onnx.npz", action=action, probabilities=probabilities)
assert not any(name.split(".")[0] == "jaxpg" for name in sys.modules)
"""
"""A program that loads exported policies and has no jaxpg. It writes what they answer."""


def _policy_and_observations(network: PolicyConfig, observation: ObservationConfig, game: str = "Pong"):
    """A policy with random weights, and 1,000 observations of games that random actions played."""
    env = EnvConfig(game=game, num_lanes=LANES, num_threads=1)
    config = Config(run=RunConfig(), env=env, policy=network, observation=observation)
    experiment = build(config, Player(env))
    random = np.random.default_rng(0)
    weights = jax.jit(experiment.policy.init)(jax.random.key(3))
    policy = TrainedPolicy(experiment, weights, 0)
    pool = experiment.rollout.pools[0]
    pool.reset(np.arange(pool.num_lanes))
    seen = [pool.recv().observation]
    while len(seen) * pool.num_lanes < LANES * STEPS:
        pool.send(random.integers(0, pool.spec.num_actions, pool.num_lanes))
        seen.append(pool.recv().observation)
    experiment.fleet.close()
    return policy, np.concatenate(seen)[: LANES * STEPS]


def _check_both_formats(folders: dict[Path, tuple[TrainedPolicy, np.ndarray]]) -> None:
    """Exports each policy into its folder; a program without jaxpg must answer as the policy does."""
    for folder, (policy, observations) in folders.items():
        function = BatchFunction(policy.of_batch, policy.observation_shape, policy.observation_dtype)
        folder.mkdir()
        np.save(folder / "observations.npy", observations)
        (folder / "policy.stablehlo").write_bytes(stablehlo_bytes(function))
        (folder / "policy.onnx").write_bytes(onnx_bytes(function, "{}"))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, folders)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for folder, (policy, observations) in folders.items():
        decision = jax.device_get(policy(observations))
        assert len(observations) == 1000
        assert len(np.unique(decision.action)) > 1, "a policy that always does the same proves little"
        for name in ("stablehlo", "onnx"):
            answers = np.load(folder / f"{name}.npz")
            np.testing.assert_array_equal(answers["action"], decision.action, f"{folder.name}, {name}")
            np.testing.assert_allclose(answers["probabilities"], decision.probabilities, atol=1e-5)


def test_without_jaxpg_both_formats_act_like_the_policy_on_1000_observations(tmp_path: Path) -> None:
    stacked = ObservationConfig(name="stack84")
    _check_both_formats(
        {
            tmp_path / "mlp": _policy_and_observations(PolicyConfig(hidden=(32,)), SMALL),
            tmp_path / "linear": _policy_and_observations(PolicyConfig(name="linear"), ObservationConfig(name="ram")),
            tmp_path / "dqn2013": _policy_and_observations(PolicyConfig(name="dqn2013"), stacked),
        }
    )


@pytest.mark.long
def test_every_network_and_observation_is_exported(tmp_path: Path) -> None:
    stacked, whole = ObservationConfig(name="stack84"), ObservationConfig(name="flat_gray")
    dim = replace(SMALL, background=(87, 144), memory=0.5)
    _check_both_formats(
        {
            tmp_path / "nature": _policy_and_observations(PolicyConfig(name="nature"), stacked),
            tmp_path / "conv3x3": _policy_and_observations(PolicyConfig(name="conv3x3"), stacked),
            tmp_path / "small": _policy_and_observations(PolicyConfig(name="small_conv"), dim),
            tmp_path / "norm": _policy_and_observations(PolicyConfig(layer_norm=True), dim),
            tmp_path / "red": _policy_and_observations(PolicyConfig(), ObservationConfig(name="red_difference")),
            tmp_path / "flat": _policy_and_observations(PolicyConfig(name="linear"), whole),
            tmp_path / "vector": _policy_and_observations(
                PolicyConfig(), ObservationConfig(name="vector"), "CartPole-v1"
            ),
        }
    )


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
