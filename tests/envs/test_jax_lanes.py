"""Environments in JAX: gymnax stepped by hand with the same keys, ends of both kinds, and what cannot be played."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.errors import UserError
from jaxpg.core.types import EmulatorNeeds, InJax, JaxEnvironment, JaxStep
from jaxpg.envs import _KINDS, BACKENDS, kind_of, make_env, register_environment, register_jax_environment
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.gymnax import quiet
from jaxpg.envs.jax_lanes import JaxLanes

VECTOR, PICTURE = EmulatorNeeds(kind="vector"), EmulatorNeeds(kind="picture")
SEEDS = np.array([3, 1, 4])
pytestmark = pytest.mark.usefixtures("quick_compilation")


def lanes(game: str, num_lanes: int = 3, needs: EmulatorNeeds = VECTOR, **options) -> JaxLanes:
    return make_env(EnvConfig(backend="gymnax", game=game, **options), needs, num_lanes)


def played(env: JaxLanes, actions: np.ndarray, seeds: np.ndarray = SEEDS) -> list[np.ndarray]:
    """The columns of all time steps, that of the reset first."""
    env.reset(seeds)
    steps = [env.recv()]
    for row in actions:
        env.send(row)
        steps.append(env.recv())
    return [np.stack(column) for column in zip(*steps, strict=True)]


def test_cartpole_is_gymnax_stepped_by_hand_with_the_same_keys() -> None:
    """Pushed to one side the pole falls within 12 agent steps; pushed in turns it stands until the limit of 30."""
    import gymnax

    actions = np.stack([np.ones(75, int), np.arange(75) % 2, np.arange(75) % 2], axis=1)
    observation, reward, terminated, truncated, life_lost, acted = played(
        lanes("CartPole-v1", max_episode_agent_steps=30), actions
    )
    env, params = gymnax.make("CartPole-v1")
    reset, step = jax.jit(env.reset_env), jax.jit(env.step_env)
    for lane, seed in enumerate(SEEDS):
        key = jax.random.key(seed)
        seen, state = reset(jax.random.fold_in(key, 0), params)
        length, over = 0, False
        np.testing.assert_array_equal(observation[0, lane], seen)
        for t, action in enumerate(actions[:, lane], start=1):
            own = jax.random.fold_in(key, t)
            if over:
                (seen, state), paid, falls, length, over = reset(own, params), 0.0, False, 0, False
                assert not acted[t, lane]
            else:
                seen, state, paid, falls, _ = step(own, state, action, params)
                length += 1
                over = bool(falls) or length == 30
                assert acted[t, lane]
            np.testing.assert_allclose(observation[t, lane], seen, rtol=1e-5, atol=1e-7)
            assert (reward[t, lane], terminated[t, lane]) == (paid, falls)
            assert truncated[t, lane] == (over and not falls)
    assert terminated[:, 0].sum() > 5
    assert truncated[:, 1:].sum() >= 2
    assert not life_lost.any()


def test_a_lane_is_the_same_beside_any_other_lanes() -> None:
    actions = np.random.default_rng(0).integers(0, 2, (40, 4))
    all_four = played(lanes("CartPole-v1", 4), actions, np.array([5, 6, 7, 8]))
    two = played(lanes("CartPole-v1", 2), actions[:, 2:], np.array([7, 8]))
    for whole, part in zip(all_four, two, strict=True):
        np.testing.assert_array_equal(whole[:, 2:], part)
    assert all_four[2].any()


def test_gymnax_s_own_limit_truncates_and_a_lost_ball_terminates() -> None:
    """Before version 1, gymnax calls both ``done``, and Breakout keeps that in its state."""
    env = lanes("Breakout-MinAtar", 1, PICTURE)
    assert env.spec.observation_dtype == np.dtype(bool)
    assert env.spec.action_names == ("NOOP", "LEFT", "RIGHT")
    env.reset(np.array([0]))
    fresh = env.lanes
    late = fresh._replace(length=fresh.length + 998)
    state, answers = jax.jit(env.advance)(late, jnp.zeros(1, jnp.int32))
    assert not answers.truncated[0]
    state, answers = jax.jit(env.advance)(state, jnp.zeros(1, jnp.int32))
    assert (bool(answers.terminated[0]), bool(answers.truncated[0])) == (False, True)
    last = state.observation
    assert (last[0, :, :, 2] != fresh.observation[0, :, :, 2]).any()  # not that of a new game
    state, answers = jax.jit(env.advance)(state, jnp.zeros(1, jnp.int32))
    assert not answers.acted[0]
    assert int(state.length[0]) == 0


def test_observations_of_minatar_are_there_or_not() -> None:
    import gymnax

    made = [gymnax.make(f"{game}-MinAtar") for game in ("Asterix", "Breakout", "Freeway", "SpaceInvaders")]
    with quiet():
        seen = jax.jit(lambda key: [env.reset_env(key, params)[0] for env, params in made])(jax.random.key(0))
    for observation in seen:
        assert set(np.unique(observation)) == {0, 1}


@pytest.mark.parametrize(
    ("game", "needs", "sentence"),
    [
        ("CartPole-v0", VECTOR, r"env.game: unknown name 'CartPole-v0'; did you mean 'CartPole-v1'\?"),
        ("Pendulum-v1", VECTOR, "env.game: an action of Pendulum-v1 is not one of a few, but numbers; jaxpg plays"),
        ("CartPole-v1", PICTURE, "observation.name: CartPole-v1 gives a vector of shape .4., not picture; use --obs"),
        ("Breakout-MinAtar", EmulatorNeeds(kind="pixels"), "gives a picture of shape .10, 10, 4., not pixels; use"),
    ],
)
def test_what_gymnax_cannot_give_is_one_sentence(game: str, needs: EmulatorNeeds, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        lanes(game, 1, needs)


@pytest.mark.long
def test_what_an_environment_shows_is_known_before_any_device_starts() -> None:
    """Several processes must find each other first. JAX takes a number of devices only until they have started."""
    games = "CartPole-v1", "Acrobot-v1", "Breakout-MinAtar"
    code = (
        "import jax; from jaxpg.envs.gymnax import kind;"
        f"print(*(kind(game) for game in {games}));"
        "jax.config.update('jax_num_cpu_devices', 2);"
        "print(jax.device_count(), kind('FourRooms-misc'))"  # JAX cannot trace how the last one is made
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vector", "vector", "picture", "2", "vector"]


def test_without_gymnax_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnax", None)
    with pytest.raises(UserError, match=r"^env.backend: gymnax is not installed; pip install 'jaxpg\[jax-envs\]'$"):
        lanes("CartPole-v1")


def reset(key):
    return jnp.float32(0), jnp.zeros(2)


def step(key, state, action):
    return state + 1, JaxStep(jnp.zeros(2), 1.0, state > 3)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"reset": lambda key: (0, {"a": jnp.zeros(2)})}, "mine observes a dict; an observation is one array"),
        (
            {"reset": lambda key: (0, 0.0), "step": lambda key, state, action: (state, JaxStep(0.0, 0.0, False))},
            "gives an observation of shape ..; it must have 1 to 3 axes",
        ),
        ({"reset": lambda key: (0, jnp.zeros(3))}, "gives the observation float32.3., and step gives float32.2."),
        ({"reset": lambda key: (True, jnp.zeros(2))}, "reset of mine gives the state bool.., and step gives int32"),
        (
            {"step": lambda key, state, action: 1 / 0},
            r"step of mine cannot be traced: \S+test_jax_lanes.py:\d+: ZeroDivisionError: division by",
        ),
        (
            {"step": lambda key, state, action: (state, 1.0, False, False, {})},
            r"test_jax_lanes.py:\d+: step of mine must return \(state, jaxpg.JaxStep\), not 5 values",
        ),
        ({"reset": lambda key: jnp.zeros(2)}, r"reset of mine must return \(state, observation\), not a Sha"),
        (
            {"step": lambda key, state, action: (state, 1.0 if action > 0 else 0.0)},
            r"py:\d+: TracerBoolConversionError: .*; JAX traces this code, so choose with jax.numpy.where or",
        ),
        (
            {"step": lambda key, state, action: (state, 0.0)},
            r"step of mine returns \(state, jaxpg.JaxStep\), not a Sha",
        ),
        (
            {"step": lambda key, state, action: (state, JaxStep(jnp.zeros(2), jnp.zeros(2), False))},
            "reward of mine is one number of one lane, not one of shape .2,.",
        ),
    ],
)
def test_functions_that_do_not_fit_are_one_sentence(changed: dict, sentence: str) -> None:
    environment = JaxEnvironment(reset, step, 2)._replace(**changed)
    with pytest.raises(UserError, match=sentence):
        JaxLanes(EnvConfig(backend="mine"), environment, VECTOR, 1)


def test_a_function_that_makes_no_environment_or_makes_it_wrongly_is_one_sentence() -> None:
    name = "made_wrongly"
    made: dict = {"nothing": lambda: None, "half": lambda: JaxEnvironment(reset, step)}  # type: ignore[call-arg]
    for what, sentence in (
        ("nothing", f"env.backend: the function of {name} must return a jaxpg.JaxEnvironment, not NoneType"),
        ("half", r"test_jax_lanes.py:\d+: TypeError: .*missing 1 required positional argument: 'num_actions'"),
    ):
        register_jax_environment(name)(lambda config, what=what: made[what]())
        try:
            for use in (lambda config: make_env(config, VECTOR, 1), kind_of):
                with pytest.raises(UserError, match=sentence):
                    use(EnvConfig(backend=name))
        finally:
            del BACKENDS._entries[name], _KINDS[name]


def test_a_decorator_without_a_name_is_refused_where_it_stands() -> None:
    for decorator in (register_jax_environment, register_environment, jaxpg.register_policy):
        with pytest.raises(UserError, match=r'register yours under a name, as in @register\("mine"\), not <function'):
            decorator(reset)


def test_a_state_may_hold_keys_and_numbers_of_python() -> None:
    """Both survive many steps with one compiled program."""

    def begin(key):
        return (key, 0), jnp.zeros(1)

    def go_on(key, state, action):
        own, count = state
        return (own, count + 1), JaxStep(jax.random.uniform(own, (1,)), 0.0, count == 2)

    env = JaxLanes(EnvConfig(backend="mine"), JaxEnvironment(begin, go_on, 2), VECTOR, 2)
    assert isinstance(env, InJax)
    observation, _, terminated, _, _, acted = played(env, np.zeros((9, 2), int), np.array([1, 2]))
    np.testing.assert_array_equal(terminated[:, 0], [False, False, False, True] * 2 + [False, False])
    np.testing.assert_array_equal(acted[:, 0], ([False, True, True, True]) * 2 + [False, True])
    assert len(np.unique(observation[1:4])) == 2  # each lane's key stays for one episode


def test_a_name_is_registered_once() -> None:
    register_jax_environment("of this test")(lambda config: JaxEnvironment(reset, step, 2))
    assert "of this test" in BACKENDS
    with pytest.raises(UserError, match="env.backend: the name 'gymnax' is taken"):
        register_jax_environment("gymnax")(lambda config: JaxEnvironment(reset, step, 2))
