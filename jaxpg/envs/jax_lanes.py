"""Backend for environments written in JAX: lanes of a ``JaxEnvironment`` that a compiled program steps."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.errors import UserError, raised
from jaxpg.core.types import Answers, EmulatorNeeds, EnvSpec, JaxEnvironment, JaxStep, Lanes, TimeStep
from jaxpg.core.user_modules import line_in, place_of, wrong_signature
from jaxpg.envs.actions import ActionTable, numbered
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.pictures import channels_last
from jaxpg.envs.seeds import check_seeds

TAKES = {"reset": "(key)", "step": "(key, state, action)"}
RETURNS = {"reset": "(state, observation)", "step": "(state, jaxpg.JaxStep)"}


class JaxLanes:
    """``N`` lanes of an environment written in JAX.

    A lane's randomness is a function of its seed and of how many resets and steps the lane has made, so a lane plays
    the same beside any other lanes. After an end the next action is ignored, as in every backend; that step resets the
    lane. At the time limit an episode is truncated.

    Args:
      config: names the actions that the policy may choose, and the time limit.
      environment: one lane.
      needs: what the observation asks for.
      num_lanes: N.

    Raises:
      UserError: the environment's functions do not fit each other, or do not give what the observation needs.
    """

    def __init__(self, config: EnvConfig, environment: JaxEnvironment, needs: EmulatorNeeds, num_lanes: int):
        self.num_lanes = num_lanes
        self._environment = environment
        self._state, observation = _checked(config.backend, environment)
        self._limit = min(config.max_episode_agent_steps, environment.max_episode_agent_steps)
        _check_observation(config, observation.shape, needs)
        names = environment.action_names or numbered(environment.num_actions)
        self._actions = ActionTable(names, config.actions, num_lanes)
        self.actions = self._actions.table
        self.spec = EnvSpec(
            num_actions=len(self._actions),
            observation_shape=observation.shape,
            observation_dtype=np.dtype(observation.dtype),
            axes=channels_last(observation.shape) if needs.kind == "picture" else (0,),
            action_names=self._actions.names,
            in_jax=True,
        )
        self._begin = jax.jit(jax.vmap(self._begun))
        self._advance = jax.jit(self.advance)
        seeds = jax.ShapeDtypeStruct((num_lanes,), jnp.uint32)
        self.lanes: Lanes = jax.eval_shape(self._begin, seeds)
        """Where the lanes are; before the first reset only shapes."""
        self._answers: Answers | None = None  # to the newest actions that were sent

    def reset(self, seeds: np.ndarray) -> None:
        check_seeds(seeds, self.num_lanes)
        self.lanes, self._answers = self._begin(seeds.astype(np.uint32)), None

    def send(self, actions: np.ndarray) -> None:
        self.lanes, self._answers = self._advance(self.lanes, self._actions.translate(actions))

    def recv(self) -> TimeStep:
        no = np.zeros(self.num_lanes, bool)
        nothing = (np.zeros(self.num_lanes, np.float32), no, no, no, no)
        return TimeStep(*jax.device_get((self.lanes.observation, *(self._answers or nothing))))

    def close(self) -> None:
        self._answers = None

    def advance(self, lanes: Lanes, actions: jax.Array) -> tuple[Lanes, Answers]:
        """Steps the lanes with the environment's actions ``i32[N]``; resets those whose episode is over."""
        keys = jax.vmap(_key)(lanes.key, lanes.calls)
        state, step = jax.vmap(self._stepped)(keys, lanes.state, actions)
        acted, length = ~lanes.ended, lanes.length + 1
        terminated = step.terminated & acted
        truncated = (step.truncated | (length >= self._limit)) & ~terminated & acted
        following = Lanes(
            key=lanes.key,
            calls=lanes.calls + 1,
            length=jnp.where(acted, length, 0),
            ended=terminated | truncated,
            state=state,
            observation=step.observation,
        )
        answers = Answers(
            reward=jnp.where(acted, step.reward, 0),
            terminated=terminated,
            truncated=truncated,
            life_lost=step.life_lost & acted & ~following.ended,
            acted=acted,
        )

        def with_resets(following: Lanes) -> Lanes:
            state, observation = jax.vmap(self._fresh)(keys)
            fresh = following._replace(state=state, observation=observation)
            return jax.vmap(_chosen)(lanes.ended, fresh, following)

        if jax.default_backend() != "cpu":  # a branch would wait for the host there
            return with_resets(following), answers
        return jax.lax.cond(lanes.ended.any(), with_resets, lambda x: x, following), answers

    def _begun(self, seed: jax.Array) -> Lanes:
        """One lane at the beginning of its first episode."""
        key = jax.random.key_data(jax.random.key(seed))
        state, observation = self._fresh(_key(key, jnp.uint32(0)))
        zero = jnp.int32(0)
        return Lanes(key, jnp.uint32(1), zero, jnp.array(False), state, observation)

    def _fresh(self, key: jax.Array) -> tuple[Any, jax.Array]:
        state, observation = self._environment.reset(key)
        return _like(state, self._state), observation.astype(self.spec.observation_dtype)

    def _stepped(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, JaxStep]:
        following, step = self._environment.step(key, state, action)
        return _like(following, self._state), JaxStep(
            step.observation.astype(self.spec.observation_dtype),
            jnp.asarray(step.reward, jnp.float32),
            *(jnp.asarray(flag, bool) for flag in step[2:]),
        )


def in_jax(
    make: Callable[[EnvConfig], JaxEnvironment],
) -> Callable[[EnvConfig, EmulatorNeeds, int], JaxLanes]:
    """Turns a function that makes one lane into a backend."""

    @wraps(make)
    def backend(config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> JaxLanes:
        return JaxLanes(config, make(config), needs, num_lanes)

    return backend


def _key(own: jax.Array, calls: jax.Array) -> jax.Array:
    """Typed key of a lane's next reset or step."""
    return jax.random.fold_in(jax.random.wrap_key_data(own), calls)


def _chosen(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _like(tree: Any, like: Any) -> Any:
    """Gives every leaf the exact dtype of ``like``; numbers of Python have a weaker one at first."""
    return jax.tree.map(lambda x, known: x if is_key(known) else jnp.asarray(x, known.dtype), tree, like)


def is_key(x: Any) -> bool:
    """Whether an array, or its shape, is of typed keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _checked(name: str, environment: object) -> tuple[Any, jax.ShapeDtypeStruct]:
    """Shapes of one lane's state and observation. Raises UserError where the two functions do not fit."""
    if not isinstance(environment, JaxEnvironment):
        kind = type(environment).__name__
        raise UserError(f"env.backend: the function of {name} must return a jaxpg.JaxEnvironment, not {kind}")
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, observation = _traced(name, "reset", environment.reset, key)
    following, step = _traced(name, "step", environment.step, key, state, jax.ShapeDtypeStruct((), jnp.int32))
    if not isinstance(observation, jax.ShapeDtypeStruct):
        kind = type(observation).__name__
        raise UserError(f"env.backend: {name} observes a {kind}; an observation is one array, so join its parts")
    if not isinstance(step, JaxStep):
        raise UserError(f"env.backend: step of {name} returns (state, jaxpg.JaxStep), not a {type(step).__name__}")
    for what, then, before in (("state", following, state), ("observation", step.observation, observation)):
        if (found := _kind(then)) != (wanted := _kind(before)):
            raise UserError(f"env.backend: reset of {name} gives the {what} {wanted}, and step gives {found}")
    for what, leaf in step._asdict().items():
        if what != "observation" and (shape := np.shape(leaf)):
            raise UserError(f"env.backend: {what} of {name} is one number of one lane, not one of shape {shape}")
    return state, observation


def _traced(name: str, what: str, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    try:
        answer = jax.eval_shape(function, *arguments)
    except Exception as error:
        if isinstance(error, TypeError) and (words := wrong_signature(function, TAKES[what])):
            raise UserError(f"env.backend: {what} of {name}: {words}") from error
        words = line_in(function, error) + raised(error)
        raise UserError(f"env.backend: {what} of {name} cannot be traced: {words}") from error
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        given = f"{len(answer)} values" if isinstance(answer, tuple | list) else f"a {type(answer).__name__}"
        raise UserError(f"env.backend: {place_of(function)}{what} of {name} must return {RETURNS[what]}, not {given}")
    first, second = answer
    return first, second


def _kind(tree: Any) -> str:
    """Shapes and dtypes of a pytree, as text."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return ", ".join(f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}".strip() for path, leaf in leaves)


def fitting_observation(config: EnvConfig, environment: JaxEnvironment) -> str:
    """The observation that suits the environment: vector or picture.

    Raises:
      UserError: the environment's functions do not fit each other, or give an observation that is neither.
    """
    return _fitting(config, _checked(config.backend, environment)[1].shape)


def _fitting(config: EnvConfig, shape: tuple[int, ...]) -> str:
    if len(shape) not in (1, 2, 3):
        raise UserError(
            f"env.game: {config.game} gives an observation of shape {list(shape)}; it must have 1 to 3 axes"
        )
    return "vector" if len(shape) == 1 else "picture"


def _check_observation(config: EnvConfig, shape: tuple[int, ...], needs: EmulatorNeeds) -> None:
    fitting = _fitting(config, shape)
    if needs.kind != fitting:
        raise UserError(
            f"observation.name: {config.game} gives a {fitting} of shape {list(shape)}, not {needs.kind}; "
            f"use --observation.name {fitting}"
        )
