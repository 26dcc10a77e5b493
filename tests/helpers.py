"""What several tests need: small configurations and a loop without files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax
import numpy as np

from jaxpg.config import Config
from jaxpg.envs.config import EnvConfig
from jaxpg.experiment import Experiment, build, lane_seeds
from jaxpg.learners.reinforce import ReinforceConfig
from jaxpg.observations import ObservationConfig
from jaxpg.optimizers import OptimizerConfig
from jaxpg.policies import PolicyConfig


def probe_config(
    game: str, reinforce: ReinforceConfig, *, policy: str = "mlp", num_lanes: int = 16, iterations: int = 150
) -> Config:
    """A tiny known problem with a small network."""
    config = Config(
        env=EnvConfig(backend="probe", game=game, num_lanes=num_lanes),
        observation=ObservationConfig(name="vector"),
        policy=PolicyConfig(name=policy, hidden=(16,)),
        reinforce=reinforce,
        optimizer=OptimizerConfig(learning_rate=0.02, final_learning_rate_fraction=0.1),
    )
    budget = iterations * reinforce.rollout_agent_steps * num_lanes
    return replace(config, run=replace(config.run, budget_agent_steps=budget))


def learn(experiment: Experiment, config: Config, iterations: int):
    """Trains without files; returns the learner's state, the last metrics, and all returns in order."""
    init_key, learner_key, act_key = jax.random.split(jax.random.key(config.run.seed), 3)
    state = experiment.learner.init(learner_key, experiment.policy.init(init_key))
    experiment.rollout.reset(lane_seeds(config.run.seed, 0, config.env.num_lanes))
    returns: list[float] = []
    metrics = {}
    for iteration in range(iterations):
        population = experiment.learner.ask(state)
        experience, _ = experiment.rollout.collect(
            population, config.reinforce.rollout_agent_steps, jax.random.fold_in(act_key, iteration)
        )
        state, metrics = experiment.learner.tell(state, population, experience)
        returns += experience.episodes.episode_return.tolist()
    return state, jax.device_get(metrics), np.array(returns)


def learn_probe(game: str, reinforce: ReinforceConfig, *, policy: str = "mlp", iterations: int = 150):
    """Trains on a probe from scratch."""
    config = probe_config(game, reinforce, policy=policy, iterations=iterations)
    experiment = build(config)
    state, metrics, returns = learn(experiment, config, iterations)
    return experiment, state, metrics, returns


@contextmanager
def counted_compilations() -> Iterator[list[str]]:
    """Collects the names of what XLA compiles inside the block."""
    compiled: list[str] = []

    def note(event: str, seconds: float, **details: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(details))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
