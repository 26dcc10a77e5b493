"""Exported policies in a process without jaxpg: both formats act like the policy on recorded observations."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxpg.config import Config
from jaxpg.core.types import ValueScale
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import Player, build
from jaxpg.kernel.trained_policy import TrainedPolicy
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from jaxpg.share.exporting import BatchFunction, onnx_bytes, stablehlo_bytes
from tests.helpers import SMALL

LANES = 8
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


def _policy_and_observations(
    network: PolicyConfig, observation: ObservationConfig, game: str = "Pong", number: int = 1000
):
    """A policy with random weights whose actions vary, and so many observations of games that random actions played."""
    env = EnvConfig(game=game, num_lanes=LANES, num_threads=1)
    config = Config(env=env, policy=network, observation=observation)
    experiment = build(config, Player(env))
    random = np.random.default_rng(0)
    weights = jax.jit(experiment.policy.init)(jax.random.key(3))
    policy = TrainedPolicy(experiment, weights, 0, ValueScale())
    pool = experiment.rollout.pools[0]
    pool.reset(np.arange(pool.num_lanes))
    seen = [pool.recv().observation]
    while len(seen) * pool.num_lanes < number:
        pool.send(random.integers(0, pool.spec.num_actions, pool.num_lanes))
        seen.append(pool.recv().observation)
    experiment.fleet.close()
    observations = np.concatenate(seen)[:number]
    head = weights["heads"]["logits"] if "heads" in weights else weights
    head["bias"] -= np.log(policy(observations).probabilities).mean(axis=0)  # so that no action is always the best
    return policy, observations


def _check_both_formats(folders: dict[Path, tuple[TrainedPolicy, np.ndarray]], number: int = 1000) -> None:
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
        assert len(observations) == number
        assert len(np.unique(decision.action)) > 1, "a policy that always does the same proves little"
        second, first = np.sort(decision.probabilities, axis=-1)[:, -2:].T
        clear = first - second > 1e-6  # where two actions are as good, rounding may choose
        assert clear.mean() > 0.8
        for name in ("stablehlo", "onnx"):
            with np.load(folder / f"{name}.npz") as file:
                answers = dict(file)
            same = answers["action"] == decision.action
            assert (same | ~clear).all(), f"{folder.name}, {name}"
            assert same.mean() >= 0.99, f"{folder.name}, {name}"
            np.testing.assert_allclose(answers["probabilities"], decision.probabilities, atol=1e-5)


def test_without_jaxpg_both_formats_act_like_the_policy_on_1000_observations(
    tmp_path: Path, quick_compilation: None
) -> None:
    _check_both_formats(
        {
            tmp_path / "mlp": _policy_and_observations(PolicyConfig(hidden=(32,)), SMALL),
            tmp_path / "linear": _policy_and_observations(PolicyConfig(name="linear"), ObservationConfig(name="ram")),
        }
    )


@pytest.mark.long
def test_every_network_and_observation_is_exported(tmp_path: Path, quick_compilation: None) -> None:
    made = partial(_policy_and_observations, number=200)
    stacked, whole = ObservationConfig(name="stack84"), ObservationConfig(name="flat_gray")
    small = ObservationConfig(name="stack42")
    motion = replace(SMALL, name="gray_motion", background=(87, 144))
    red, vector = ObservationConfig(name="red_difference"), ObservationConfig(name="vector")
    _check_both_formats(
        {
            tmp_path / "compact": made(PolicyConfig(name="compact"), small),
            tmp_path / "dqn2013": made(PolicyConfig(name="dqn2013"), stacked),
            tmp_path / "nature": made(PolicyConfig(name="nature"), stacked),
            tmp_path / "conv3x3": made(PolicyConfig(name="conv3x3"), stacked),
            tmp_path / "small": made(PolicyConfig(name="small_conv"), motion),
            tmp_path / "norm": made(PolicyConfig(layer_norm=True), motion),
            tmp_path / "red": made(PolicyConfig(), red),
            tmp_path / "flat": made(PolicyConfig(name="linear"), whole),
            tmp_path / "vector": made(PolicyConfig(), vector, "CartPole-v1"),
        },
        number=200,
    )
