"""What the device does in an iteration of each recipe is lowered for CUDA and TPU, so it needs nothing that CPUs have.

With emulators on the host, an iteration is one program here that takes what the emulators answered; environments in JAX
are part of theirs (``test_jax_iteration.py``).
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxpg.config import RECIPES, load_recipe
from jaxpg.core.types import Answers, Tape
from jaxpg.experiment import build
from jaxpg.kernel.act import gumbel_noise
from jaxpg.kernel.pieces import Experiment
from tests.helpers import rounded_products

IN_TIME = ("pong", "atari", "mspacman_ars_ram")
"""One of each kind; the others are tried with the long tests."""
ON_HOST = sorted(
    str(path.relative_to(RECIPES).with_suffix(""))
    for path in RECIPES.rglob("*.yaml")
    if load_recipe(path).env.backend != "gymnax"
)


@pytest.mark.parametrize(
    "name", [name if name in IN_TIME else pytest.param(name, marks=pytest.mark.long) for name in ON_HOST]
)
def test_the_iteration_of_every_recipe_is_lowered_for_accelerators(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cuda")
    experiment = build(load_recipe(Path(RECIPES / f"{name}.yaml")))
    steps, lanes = experiment.rollout_agent_steps, experiment.rollout.num_lanes
    spec = experiment.rollout.pools[0].spec
    raw = jax.ShapeDtypeStruct((steps + 1, lanes, *spec.observation_shape), spec.observation_dtype)
    flags = jax.ShapeDtypeStruct((steps, lanes), bool)
    answers = Answers(jax.ShapeDtypeStruct((steps, lanes), jnp.float32), *[flags] * (len(Answers._fields) - 1))

    def iteration(seed: jax.Array, raw: jax.Array, answers: Answers) -> Any:
        state_key, act_key = jax.random.split(jax.random.key(seed))
        state = experiment.learner.init(state_key, experiment.policy.init(state_key))
        ids = jnp.arange(lanes if experiment.learner.episodes_to_play else 1, dtype=jnp.int32)
        tape, actions = _play(experiment, experiment.learner.ask(state, ids), raw, act_key)
        return actions, _learned(experiment, state, tape, answers)

    exported = jax.export.export(jax.jit(iteration), platforms=["cuda", "tpu"])(
        jax.ShapeDtypeStruct((), jnp.uint32), raw, answers
    )
    assert exported.platforms == ("cuda", "tpu")
    assert "callback" not in exported.mlir_module()
    assert rounded_products(exported.mlir_module()) == []


def _play(experiment: Experiment, population: Any, raw: jax.Array, key: jax.Array) -> tuple[Tape, jax.Array]:
    """Acts on each row of ``raw``; the last row is the bootstrap's."""
    rollout, lanes = experiment.rollout, raw.shape[1]
    num_actions = rollout.pools[0].spec.num_actions
    noise = gumbel_noise(key, len(raw), lanes, num_actions)
    shape = raw.shape[:2]
    tape = Tape(
        observation=jnp.zeros((*shape, *rollout.encoded.shape), rollout.encoded.dtype),
        action=jnp.zeros(shape, jnp.int32),
        logits=jnp.zeros((*shape, num_actions)),
        value=jnp.zeros(shape),
    )

    def row(tape: Tape, number: jax.Array) -> tuple[Tape, jax.Array]:
        actions, written = rollout.act(population, raw[number], noise, tape, number, 0)
        return written, actions

    return jax.lax.scan(row, tape, jnp.arange(len(raw)))


def _learned(experiment: Experiment, state: Any, tape: Tape, answers: Answers) -> Any:
    learner = experiment.learner
    if learner.learn:
        scheduled = {name: jnp.float32(value) for name, value in learner.scheduled(0.5).items()}
        following, metrics = learner.learn(state, tape, answers, scheduled)
        return following._replace(key=jax.random.key_data(following.key)), metrics
    step = getattr(learner.tell.__self__, "_step", None)
    if step is None:  # random search learns nothing on the device
        return ()
    returns = answers.reward.sum(0)[: len(state.return_sums)]
    returns = jnp.resize(returns, state.return_sums.shape)
    return step(state.params, state.optimizer, state.key, state.generation, returns, jnp.float32(0.1))
