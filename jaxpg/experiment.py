"""From a configuration to the pieces that run it; every command that plays a policy starts here."""

import dataclasses
import math
import os
import sys
from contextlib import closing
from functools import partial
from typing import Literal, NamedTuple

import jax

from jaxpg.config import Config
from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, EnvSpec, PolicyFunctions
from jaxpg.envs import footprint, make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.kernel.fleet import Fleet
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.rollout import AGENT_STEPS_PER_LOOK, Rollout
from jaxpg.kernel.task import Task
from jaxpg.learners.base import Learner
from jaxpg.learners.evolution import make_evolution
from jaxpg.learners.minibatches import agent_steps_per_update
from jaxpg.learners.optimizers import learning_rate_at, make_optimizer
from jaxpg.learners.random_search import make_random_search, rounds_of
from jaxpg.learners.reinforce import make_reinforce
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.machine import memory_estimate
from jaxpg.machine.limits import usable_cores
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import make_policy, with_normalizer
from jaxpg.policies.observations import Observation, encoded_shape, input_shape, make_observation

Actions = Literal["trained", "sampled", "greedy"]
"""How a trained policy acts where nobody learns: as the learner let it, sampled, or the most probable action."""

GREEDY: dict[Actions, bool | None] = {"trained": None, "sampled": False, "greedy": True}


class Player(NamedTuple):
    """How a trained policy plays where nobody learns."""

    env: EnvConfig
    """The emulators, which may differ from those of the training."""
    greedy: bool | None = None
    """Whether the most probable action is taken; None for what the learner did."""
    keeps_tape: bool = False
    """Whether observations and actions are kept, to be looked at."""


def build(config: Config, player: Player | None = None, team: Team | None = None) -> Experiment:
    """Builds the pieces and checks that they fit each other and this machine; starts no emulator's game yet.

    Args:
      config: of the run.
      player: for a rollout in which nobody learns.
      team: the devices that share the lanes; None for one.

    Raises:
      UserError: a name is unknown, two settings contradict each other, or the run is too large for this machine.
    """
    team = team or Team.alone()
    remarks: list[str] = []
    if player is None:
        _check_training(config, team)
        config, remarks = _with_fitting_minibatch(config)
    else:
        config = _for_playing(config, player.env)
    env = config.env
    observation = make_observation(config.observation)
    num_lanes = env.num_lanes // team.num_devices
    num_pools = _num_pools(env, num_lanes, learns=player is None)
    if not env.num_threads and usable_cores() < (os.cpu_count() or 1):  # which the emulators' libraries do not see
        env = dataclasses.replace(env, num_threads=usable_cores())
    footprint.check_threads(env, num_pools * len(team.devices), num_lanes // num_pools)
    lane_groups = config.run.lane_groups or team.num_devices
    spec = _spec(env, observation.needs)
    shape = input_shape(observation, spec)
    has_value = config.run.learner == "reinforce" and config.reinforce.baseline == "value"
    policy = make_policy(config.policy, shape, spec.num_actions, has_value)
    rollout_agent_steps = AGENT_STEPS_PER_LOOK
    match config.run.learner:
        case "reinforce":
            rollout_agent_steps = config.reinforce.rollout_agent_steps
            if config.reinforce.normalize_observations:
                policy = with_normalizer(policy, shape)
            learner = _reinforce(config, policy, observation, shape, team)
        case "random_search":
            learner = make_random_search(config.random_search)
        case "evolution":
            if config.evolution.normalize_observations:
                policy = with_normalizer(policy, shape)
            optimizer, rate = make_optimizer(config.optimizer), partial(learning_rate_at, config.optimizer)
            learner = make_evolution(config.evolution, observation, optimizer, rate, shape, team)
    greedy = learner.greedy if player is None or player.greedy is None else player.greedy
    keeps_tape = player.keeps_tape if player else learner.keeps_tape
    _check_memory(
        config,
        dataclasses.replace(env, num_lanes=num_lanes * len(team.devices)),
        policy,
        learner,
        observation,
        spec,
        learns=player is None,
        keeps_tape=keeps_tape,
        rollout_agent_steps=rollout_agent_steps,
    )
    rollouts = [
        Rollout(
            [make_env(env, observation.needs, num_lanes // num_pools) for _ in range(num_pools)],
            policy,
            observation,
            keeps_tape=keeps_tape,
            greedy=greedy,
            device=device,
            first_lane=number * num_lanes,
            compiles=player is None and _compiles_rollouts(config),
        )
        for number, device in enumerate(team.devices, start=team.first_device)
    ]
    return Experiment(
        observation=observation,
        policy=policy,
        learner=learner,
        fleet=Fleet(rollouts),
        frame_skip=spec.frame_skip,
        rollout_agent_steps=rollout_agent_steps,
        lane_groups=lane_groups,
        task=Task.of(env, config.observation, observation.needs, spec),
        remarks=(*remarks, *([spec.remark] if spec.remark else [])),
    )


def _check_training(config: Config, team: Team) -> None:
    """The rules for training that do not depend on what the emulators give."""
    env, devices, lane_groups = config.env, team.num_devices, config.run.lane_groups or team.num_devices
    if env.num_lanes % devices:
        below = env.num_lanes // devices * devices
        near = f"{below} and {below + devices} can" if below else f"{devices} can"
        raise UserError(
            f"env.num_lanes: {devices} devices cannot share {env.num_lanes} lanes evenly, {near}; use another number, "
            "or fewer devices with --distributed.devices"
        )
    if lane_groups % devices or env.num_lanes % lane_groups:
        raise UserError(
            f"run.lane_groups: {lane_groups} must be a multiple of the {devices} devices and divide the "
            f"{env.num_lanes} lanes"
        )
    generations = config.evolution.generations
    if config.run.learner == "evolution" and config.optimizer.schedule != "constant" and not generations:
        raise UserError(
            f"optimizer.schedule: {config.optimizer.schedule!r} spans evolution.generations, which is 0; "
            "set it or use the schedule 'constant'"
        )


def _with_fitting_minibatch(config: Config) -> tuple[Config, list[str]]:
    """The configuration with minibatches that divide the batch, the nearest to those that were asked for, and a remark
    where these are others: one recipe serves any number of lanes.
    """
    lanes, steps = config.env.num_lanes, config.reinforce.rollout_agent_steps
    asked = config.reinforce.minibatch_agent_steps
    if config.run.learner != "reinforce" or not 0 < asked < steps * lanes:
        return config, []
    small = [rows for rows in range(1, math.isqrt(steps) + 1) if steps % rows == 0]
    divisors = small + [steps // rows for rows in small]
    fitting = lanes * min(divisors, key=lambda rows: (abs(math.log(rows * lanes / asked)), rows))
    if fitting == asked:
        return config, []
    reinforce = dataclasses.replace(config.reinforce, minibatch_agent_steps=fitting)
    return dataclasses.replace(config, reinforce=reinforce), [
        f"updates learn from {fitting} agent steps, which divide a batch of {lanes} lanes x {steps} agent steps; "
        f"reinforce.minibatch_agent_steps asks for {asked}"
    ]


def _for_playing(config: Config, env: EnvConfig) -> Config:
    """The configuration with what only learning needs at its defaults, so that no rule for training refuses a player.

    What shapes and explains the learner's state stays, because a checkpoint holds the whole state.
    """
    baseline, search, evolution = config.reinforce.baseline, config.random_search, config.evolution
    return dataclasses.replace(
        config,
        env=env,
        run=dataclasses.replace(config.run, lane_groups=0),
        reinforce=ReinforceConfig(
            baseline=baseline,
            normalize_value=config.reinforce.normalize_value and baseline == "value",
            normalize_observations=config.reinforce.normalize_observations,
        ),
        random_search=dataclasses.replace(search, finalists=min(search.finalists, search.candidates)),
        evolution=dataclasses.replace(evolution, top_pairs=min(evolution.top_pairs, evolution.pairs)),
    )


def _spec(env: EnvConfig, needs: EmulatorNeeds) -> EnvSpec:
    """What the emulators give and take, from a single one."""
    with closing(make_env(dataclasses.replace(env, num_threads=1), needs, 1)) as one:
        return one.spec


def _check_memory(
    config: Config,
    env: EnvConfig,
    policy: PolicyFunctions,
    learner: Learner,
    observation: Observation,
    spec: EnvSpec,
    *,
    learns: bool,
    keeps_tape: bool,
    rollout_agent_steps: int,
) -> None:
    """UserError where this process's lanes, those of ``env``, would not fit into memory; allocates nothing."""
    learns_from_tape = learns and config.run.learner == "reinforce"
    steps = rollout_agent_steps if learns else AGENT_STEPS_PER_LOOK
    encoded, shape = encoded_shape(observation, spec), input_shape(observation, spec)
    # reward, flags and noise, besides the tape's observation, action, logits and value
    on_tape = memory_estimate.num_bytes(encoded) + 8 + 4 * spec.num_actions if keeps_tape else 0
    one_step = 8 + 4 * spec.num_actions + on_tape
    rollout_key = "reinforce.rollout_agent_steps" if learns_from_tape else "env.num_lanes"
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(policy.init, key)
    weights = memory_estimate.num_bytes(params)
    state = memory_estimate.num_bytes(jax.eval_shape(learner.init, key, params))
    parts = [
        footprint.emulators(env, observation.needs),
        memory_estimate.Part(rollout_key, f"a rollout of {steps} agent steps", (steps + 1) * env.num_lanes * one_step),
        memory_estimate.Part(
            "policy.hidden" if config.policy.name == "mlp" else "policy.name",
            f"a network of {weights // 4} weights, its optimizer and its gradient",
            state + (2 if learns else 1) * weights,
        ),
    ]
    if learns_from_tape:
        update = agent_steps_per_update(config.reinforce, env.num_lanes)
        chunk_key, chunk = "reinforce.minibatch_agent_steps", update
        if jax.default_backend() == "cpu":
            chunk_key = "reinforce.chunk_agent_steps"
            chunk = min(update, max(config.reinforce.chunk_agent_steps, env.num_lanes))
        inputs = 4 * math.prod(shape)
        parts.append(memory_estimate.Part(chunk_key, f"the gradient of {chunk} agent steps at once", chunk * inputs))
    elif learns:
        parts.append(
            memory_estimate.Part("env.num_lanes", f"the weights of {env.num_lanes} candidates", env.num_lanes * weights)
        )
        parts.append(memory_estimate.games(f"{config.run.learner}.episodes_per_candidate", _most_games(config)))
    memory_estimate.check_memory(parts)


def _most_games(config: Config) -> int:
    """Games in the largest round of search or evolution."""
    if config.run.learner == "evolution":
        return 2 * config.evolution.pairs * config.evolution.episodes_per_candidate
    return max(candidates * episodes for candidates, episodes in rounds_of(config.random_search))


def _num_pools(env: EnvConfig, num_lanes: int, *, learns: bool) -> int:
    """Into how many groups the lanes are divided; see docs/results.md for what it gains.

    A learner's lanes all play all the time, and only an accelerator has work to overlap with the emulators'. Where
    a number of games is played, groups of at least four come to rest one by one as the last games end; no game depends
    on the groups, so a number that was meant for other lanes becomes one that divides these.

    Raises:
      UserError: a learner's lanes cannot be divided as ``env.num_pools`` says.
    """
    if not learns:
        if env.num_pools:
            return math.gcd(env.num_pools, num_lanes)
        groups = math.gcd(8, max(num_lanes // 4, 1), num_lanes)
        return 1 if footprint.too_many_threads(env, groups, num_lanes // groups) else groups
    if not env.num_pools:
        return 1 if jax.default_backend() == "cpu" else math.gcd(2, num_lanes)
    if num_lanes % env.num_pools:
        raise UserError(f"env.num_pools: {env.num_pools} pools cannot share {num_lanes} lanes evenly")
    return env.num_pools


def _compiles_rollouts(config: Config) -> bool:
    """Whether rollouts become programs: where it was tried, and for policies that gain by it (docs/performance.md)."""
    return jax.default_backend() == "cpu" and sys.platform == "linux" and config.policy.name in ("linear", "mlp")


def _reinforce(
    config: Config,
    policy: PolicyFunctions,
    observation: Observation,
    shape: tuple[int, ...],
    team: Team,
) -> Learner:
    return make_reinforce(
        config.reinforce,
        policy,
        observation,
        make_optimizer(config.optimizer),
        num_lanes=config.env.num_lanes,
        learning_rate=partial(learning_rate_at, config.optimizer),
        team=team,
        input_shape=shape,
    )
