"""What several tests need: small configurations and a loop without files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.config import Config, schedule_progress
from jaxpg.core.types import PolicyFunctions, TimeStep, VectorEnv
from jaxpg.envs import kind_of, make_env
from jaxpg.envs.actions import ActionTable
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.games import offered_actions
from jaxpg.envs.seeds import lane_seeds
from jaxpg.experiment import build
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.players import CandidateQueue, FixedPopulation, beginning
from jaxpg.kernel.rollout import Rollout
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.policies.networks import PolicyConfig, make_policy
from jaxpg.policies.observations import ObservationConfig, input_shape, make_observation

SMALL = ObservationConfig(
    name="gray_difference", height=35, width=40, first_row=5, end_row=33, first_column=0, end_column=40
)
"""Pong at half the size."""


def played(env: VectorEnv, actions: np.ndarray) -> list[TimeStep]:
    """The first time step and one for each row of ``actions`` ([T, N])."""
    steps = [env.recv()]
    for row in actions:
        env.send(row)
        steps.append(env.recv())
    return steps


def action_names(config: EnvConfig) -> list[str]:
    """Names of the actions that a policy chooses from in an Atari game."""
    return list(ActionTable(offered_actions(config), config.actions, 1).names)


def make_rollout(
    env: EnvConfig, num_lanes: int, *, num_pools: int = 1, value: bool = True, hidden: int = 8, **options
) -> tuple[Rollout, PolicyFunctions]:
    """A rollout and its policy, an MLP of one layer."""
    shown = kind_of(env) or "vector"
    observation = make_observation(SMALL if shown == "pixels" else ObservationConfig(name=shown))
    pools = [make_env(env, observation.needs, num_lanes // num_pools) for _ in range(num_pools)]
    spec = pools[0].spec
    policy = make_policy(PolicyConfig(hidden=(hidden,)), input_shape(observation, spec), spec.num_actions, value)
    return Rollout(pools, policy, observation, **options), policy


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
    state = jax.jit(experiment.learner.init)(learner_key, jax.jit(experiment.policy.init)(init_key))
    state = jax.device_put(state, jax.local_devices()[0])  # as the training does
    experiment.rollout.reset(lane_seeds(config.run.seed, 0, config.env.num_lanes))
    returns: list[float] = []
    metrics = {}
    for iteration in range(iterations):
        population = experiment.learner.ask(state, jnp.zeros(1, jnp.int32))
        experience, _ = experiment.rollout.collect(
            FixedPopulation(population, config.env.num_lanes),
            config.reinforce.rollout_agent_steps,
            jax.random.fold_in(act_key, iteration),
        )
        progress = schedule_progress(config, iteration * experience.reward.size)
        state, metrics = experiment.learner.tell(state, [experience], experience.episodes, progress)
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


def play_rounds(experiment: Experiment, config: Config, num_rounds: int, enough: float = np.inf):
    """Search or evolution without files: whole rounds, each with new emulator seeds; returns the learner's state.

    Evolution ends before, when the mean return of a generation is ``enough``.
    """
    learner, num_lanes = experiment.learner, config.env.num_lanes
    init_key, learner_key, act_key = jax.random.split(jax.random.key(config.run.seed), 3)
    state = jax.jit(learner.init)(learner_key, jax.jit(experiment.policy.init)(init_key))
    for number in range(num_rounds):
        experiment.rollout.reset(lane_seeds(config.run.seed, number, num_lanes))
        queue = CandidateQueue(beginning(learner.episodes_to_play(state), num_lanes, 1), partial(learner.ask, state))
        while not queue.finished:
            experience, _ = experiment.rollout.collect(queue, experiment.rollout_agent_steps, act_key)
            state, metrics = learner.tell(state, [experience], experience.episodes, 0.0)
        if metrics.get("generation_return_mean", -np.inf) >= enough:
            break
    return state


def rounded_products(stablehlo: str) -> list[str]:
    """The products and convolutions of a lowered program whose factors a device may round."""
    products = ("stablehlo.dot_general", "stablehlo.convolution")
    return [line for line in stablehlo.splitlines() if any(x in line for x in products) and "HIGHEST" not in line]
