"""Builds the parts of a run from its configuration. Every command that plays a policy starts here."""

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.config import Config, own_section, with_overrides
from jaxpg.core.errors import UserError
from jaxpg.core.registry import Registry
from jaxpg.core.run_config import Member
from jaxpg.core.types import EmulatorNeeds, EnvSpec, InJax, Params, PolicyFunctions, VectorEnv
from jaxpg.core.user_modules import own_code
from jaxpg.envs import footprint, make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.kernel.fleet import Fleet
from jaxpg.kernel.jax_iteration import WholeIterations
from jaxpg.kernel.pieces import Experiment
from jaxpg.kernel.rollout import AGENT_STEPS_PER_LOOK, Rollout
from jaxpg.kernel.task import Task
from jaxpg.learners.base import Ingredients, Learner, LearnerKind, Sizes
from jaxpg.learners.population import members_of_population, memory_of_members, scheduled_of_each
from jaxpg.learners.registry import LEARNERS
from jaxpg.machine import memory_estimate
from jaxpg.machine.limits import usable_cores
from jaxpg.machine.memory_estimate import Part
from jaxpg.machine.xla import keep_float32_products
from jaxpg.parallel.team import Team
from jaxpg.policies.networks import make_policy, with_equal_logits, with_normalizer
from jaxpg.policies.observations import Observation, encoded_shape, input_shape, make_observation, unused_settings

Actions = Literal["trained", "sampled", "greedy", "random"]
"""How a trained policy acts without learning: as in training, by sampling, by taking the most probable action, or by
drawing from all actions alike, whatever the policy says."""

WAYS = Registry[str | None]("actions", {"trained": None, "sampled": "sampled", "greedy": "greedy", "random": "random"})
"""``Experiment.acts`` for each way to act; None for that of training."""


class Player(NamedTuple):
    """How a trained policy plays without learning."""

    env: EnvConfig
    """Settings of the emulators, which may differ from those of the training."""
    actions: Actions = "trained"
    """How actions are chosen."""
    keeps_tape: bool = False
    """Whether rollouts keep a tape of observations and actions, for the caller to look at."""


def build(config: Config, player: Player | None = None, team: Team | None = None) -> Experiment:
    """Builds the parts of a run, and checks that they fit each other and this machine. No episode begins yet.

    Args:
      config: the configuration of the run.
      player: how the trained policy plays; None for training.
      team: the devices that share the lanes; None for a single device.

    Raises:
      UserError: a name is unknown, two settings contradict each other, or the run is too large for this machine.
    """
    team, kind, learns = team or Team.alone(), LEARNERS[config.run.learner], player is None
    keep_float32_products()
    members = members_of_population(kind, config.run, team.num_devices) if learns else ()
    config, remarks = _for_training(kind, config, team) if player is None else (_for_playing(kind, config, player), [])
    observation = make_observation(config.observation)
    env = _with_usable_cores(config.env)
    num_lanes = env.num_lanes // team.num_devices
    spec, lane_bytes = _spec(env, observation.needs)
    remarks += _without_effect(config, observation.needs) if learns else []
    shape = input_shape(observation, spec)
    policy = _policy(kind, config, shape, spec.num_actions)
    make = partial(_learner, kind, policy=policy, observation=observation, shape=shape, team=team)
    learner = make(config)
    acts = (WAYS[player.actions] if player else None) or ("greedy" if learner.greedy else "sampled")
    _check_members(members, env, spec)
    num_pools = 1 if spec.in_jax else _num_pools(env, num_lanes, learns=learns)
    footprint.check_threads(env, num_pools * len(team.devices), num_lanes // num_pools)
    keeps_tape = player.keeps_tape if player else learner.keeps_tape
    rollout_agent_steps = _rollout_agent_steps(kind, config) if learns else AGENT_STEPS_PER_LOOK
    memory = partial(
        _memory,
        *(config, env, kind if learns else None, policy, learner, observation, spec, lane_bytes),
        keeps_tape=keeps_tape,
        rollout_agent_steps=rollout_agent_steps,
    )
    _check_memory(memory, num_lanes, len(members), team)
    rollouts = [
        Rollout(
            _pools(env, observation.needs, num_pools, max(len(members), 1) * num_lanes),
            with_equal_logits(policy) if acts == "random" else policy,
            observation,
            keeps_tape=keeps_tape,
            greedy=acts == "greedy",
            device=device,
            first_lane=number * num_lanes,
            compiles=learns and _compiles_rollouts(config),
        )
        for number, device in enumerate(team.devices, start=team.first_device)
    ]
    whole: WholeIterations | None = None
    if learns and spec.in_jax and team.num_devices == 1 and learner.learn:
        each = scheduled_of_each(members, lambda member: make(_own(config, member)))
        whole = WholeIterations(rollouts[0], learner, rollout_agent_steps, each)
    assert whole or not members, "a kind with sweepable settings makes learners with learn"
    return Experiment(
        observation=observation,
        policy=policy,
        learner=learner,
        fleet=Fleet(rollouts),
        frame_skip=spec.frame_skip,
        rollout_agent_steps=rollout_agent_steps,
        lane_groups=config.run.lane_groups or team.num_devices,
        task=Task.of(env, config.observation, observation.needs, spec),
        whole_iterations=whole,
        members=members,
        acts=acts,
        remarks=(*remarks, *filter(None, [spec.remark])),
    )


def _check_members(members: Sequence[Member], env: EnvConfig, spec: EnvSpec) -> None:
    """Raises UserError where a population is to play environments that are not written in JAX."""
    if members and not spec.in_jax:
        raise UserError(
            f"run.population: side by side train only environments in JAX, and {env.backend} plays {env.game} on the "
            "host; use env.backend gymnax or your own in JAX, or start a run for each seed"
        )


def _check_memory(memory: Callable[[int], list[Part]], num_lanes: int, num_members: int, team: Team) -> None:
    """Checks that what a device and this process hold fits.

    Args:
      memory: ``lanes -> the memory of so many lanes, and of what learns from them``, for one member.
      num_lanes: lanes of one device.
      num_members: members of the population; 0 without one.
      team: the devices.

    Raises:
      UserError: it does not fit.
    """
    sizes = [memory(num_lanes), memory(num_lanes * len(team.devices))]
    of_device, parts = [memory_of_members(one, num_members) for one in sizes] if num_members else sizes
    memory_estimate.check_memory(parts, of_device, team.devices[0])


def _rollout_agent_steps(kind: LearnerKind[Any], config: Config) -> int:
    """Agent steps of a training rollout (T)."""
    return getattr(own_section(config), kind.rollout_setting) if kind.rollout_setting else AGENT_STEPS_PER_LOOK


def _pools(env: EnvConfig, needs: EmulatorNeeds, num_pools: int, num_lanes: int) -> list[VectorEnv]:
    """Divides the lanes of one device into pools."""
    return [make_env(env, needs, num_lanes // num_pools) for _ in range(num_pools)]


def _own(config: Config, member: Member) -> Config:
    """The configuration of a member, without its seed. Raises UserError where a number does not fit its setting."""
    return with_overrides(config, member.settings) if member.settings else config


def _without_effect(config: Config, needs: EmulatorNeeds) -> list[str]:
    """Sentences about settings that differ from their defaults and have no effect on what is seen or credited."""
    remarks = []
    if unused := unused_settings(config.observation):
        remarks.append(f"observation.{', observation.'.join(unused)}: no effect on {config.observation.name}")
    if needs.kind in ("vector", "picture") and getattr(own_section(config), "cut_at_life_loss", False):
        remarks.append(f"{config.run.learner}.cut_at_life_loss: no effect, because {config.env.game} has no lives")
    return remarks


def _for_training(kind: LearnerKind[Any], config: Config, team: Team) -> tuple[Config, list[str]]:
    """Checks a training's configuration and fits it to the number of lanes.

    Only those rules are checked that do not depend on what the emulators give.

    Returns:
      The configuration, and remarks for the user about what has changed.

    Raises:
      UserError: a rule for training is broken.
    """
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
    if len(env.actions) == 1:
        raise UserError(f"env.actions: {env.actions[0]} alone leaves nothing to choose; give two actions or more")
    kind.check(own_section(config), config.optimizer)
    section, remarks = kind.fitted(own_section(config), env.num_lanes)
    return _with_own_section(config, section), remarks


def _for_playing(kind: LearnerKind[Any], config: Config, player: Player) -> Config:
    """Makes the configuration of a player, free of settings that only the rules for training could refuse."""
    run = dataclasses.replace(config.run, lane_groups=0)
    config = _with_own_section(config, kind.for_playing(own_section(config)))
    return dataclasses.replace(config, env=player.env, run=run)


def _with_own_section(config: Config, section: Any) -> Config:
    return dataclasses.replace(config, **{config.run.learner: section})


def _with_usable_cores(env: EnvConfig) -> EnvConfig:
    """Limits the emulators' threads to the cores that this process may use; emulator libraries ignore that limit."""
    if env.num_threads or usable_cores() >= (os.cpu_count() or 1):
        return env
    return dataclasses.replace(env, num_threads=usable_cores())


def _spec(env: EnvConfig, needs: EmulatorNeeds) -> tuple[EnvSpec, int]:
    """Starts a single emulator to learn what the emulators give and take.

    Returns:
      That, and the bytes of one lane of an environment in JAX; 0 for an emulator on the host.
    """
    with closing(make_env(dataclasses.replace(env, num_threads=1), needs, 1)) as one:
        return one.spec, memory_estimate.num_bytes(one.lanes) if isinstance(one, InJax) else 0


def _policy(kind: LearnerKind[Any], config: Config, shape: tuple[int, ...], num_actions: int) -> PolicyFunctions:
    """Makes the policy, with the value head and the normaliser that its learner needs."""
    section = own_section(config)
    policy = make_policy(config.policy, shape, num_actions, kind.has_value(section))
    return with_normalizer(policy, shape) if kind.normalizes_observations(section) else policy


def _learner(
    kind: LearnerKind[Any],
    config: Config,
    policy: PolicyFunctions,
    observation: Observation,
    shape: tuple[int, ...],
    team: Team,
) -> Learner:
    ingredients = Ingredients(
        config=own_section(config),
        optimizer=config.optimizer,
        policy=policy,
        observation=observation,
        input_shape=shape,
        num_lanes=config.env.num_lanes,
        team=team,
    )
    with own_code(f"run.learner: {config.run.learner!r}", kind.make, "(ingredients)"):
        learner: Learner = kind.make(ingredients)
    return learner


def _memory(
    config: Config,
    env: EnvConfig,
    learns: LearnerKind[Any] | None,
    policy: PolicyFunctions,
    learner: Learner,
    observation: Observation,
    spec: EnvSpec,
    lane_bytes: int,
    num_lanes: int,
    *,
    keeps_tape: bool,
    rollout_agent_steps: int,
) -> list[Part]:
    """Estimates the memory of so many lanes and of what learns from them. Allocates nothing large."""
    env, rollout_key = dataclasses.replace(env, num_lanes=num_lanes), "env.num_lanes"
    if learns and learns.rollout_setting:
        rollout_key = f"{config.run.learner}.{learns.rollout_setting}"
    encoded = memory_estimate.num_bytes(encoded_shape(observation, spec))
    # the tape's observation, action, value and logits; the next line adds reward, flags and noise
    on_tape = encoded + 8 + 4 * spec.num_actions if keeps_tape else 0
    rollout_bytes = (rollout_agent_steps + 1) * num_lanes * (8 + 4 * spec.num_actions + on_tape)
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(policy.init, key)
    weights = memory_estimate.num_bytes(params)
    state = memory_estimate.num_bytes(jax.eval_shape(learner.init, key, params))
    learning = []
    if learns:
        gradient = _gradient_bytes(policy, params, input_shape(observation, spec))
        learning = learns.memory(own_section(config), Sizes(num_lanes, config.env.num_lanes, gradient, weights))
    return [
        footprint.emulators(env, observation.needs, lane_bytes),
        *footprint.workers(env),
        Part(rollout_key, f"a rollout of {rollout_agent_steps} agent steps", rollout_bytes, on_device=True),
        Part(
            "policy.hidden" if config.policy.name == "mlp" else "policy.name",
            f"a network of {weights // 4} weights, its optimizer and its gradient",
            state + (2 if learns else 1) * weights,
            on_device=True,
        ),
        *learning,
    ]


def _gradient_bytes(policy: PolicyFunctions, params: Params, shape: tuple[int, ...]) -> int:
    """Bytes that a gradient keeps of one agent step: the policy's input, and the outputs of its layers."""
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    layers = memory_estimate.outputs_of_products(jax.make_jaxpr(policy.apply)(params, inputs))
    return memory_estimate.num_bytes((inputs, layers))


def _num_pools(env: EnvConfig, num_lanes: int, *, learns: bool) -> int:
    """Chooses the number of pools into which the lanes are divided; docs/lab/linear-mspacman.md has what they gain.

    A player plays a fixed number of episodes, so its pools of at least four lanes come to rest one by one as the last
    episodes end. The rounds of a learner come to rest, too, but there every lane has weights of its own, and acting
    pool by pool costs more than the emulation that it saves (docs/performance.md): so several pools help training only
    on an accelerator, whose work overlaps with emulation. Episodes do not depend on the pools. So a player, whose
    number of lanes may differ from the training's, gets the largest number of pools that divides both
    ``env.num_pools`` and its lanes.

    Raises:
      UserError: training cannot divide its lanes into ``env.num_pools`` pools.
    """
    if env.num_pools and learns and num_lanes % env.num_pools:
        raise UserError(f"env.num_pools: {env.num_pools} pools cannot share {num_lanes} lanes evenly")
    if env.num_pools:
        return math.gcd(env.num_pools, num_lanes)
    if learns:
        return 1 if jax.default_backend() == "cpu" else math.gcd(2, num_lanes)
    pools = math.gcd(8, max(num_lanes // 4, 1), num_lanes)
    if env.workers:
        pools = math.gcd(pools, env.workers)  # a pool has a whole number of the workers
    return 1 if footprint.too_many_threads(env, pools, num_lanes // pools) else pools


def _compiles_rollouts(config: Config) -> bool:
    """Whether rollouts are compiled: with JAX on CPU on Linux, for policies that gain speed (docs/performance.md)."""
    return jax.default_backend() == "cpu" and sys.platform == "linux" and config.policy.name in ("linear", "mlp")
