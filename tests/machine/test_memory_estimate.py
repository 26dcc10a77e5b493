"""What does not fit into memory is refused by name, before an emulator is made and before anything is allocated."""

import dataclasses
import resource

import jax
import numpy as np
import pytest

from jaxpg import experiment as experiment_module
from jaxpg.cli import parse_play
from jaxpg.config import Config, RunConfig, dump
from jaxpg.core.errors import UserError
from jaxpg.envs import footprint, register_jax_environment
from jaxpg.envs.config import EnvConfig
from jaxpg.evaluate import EvaluateArguments
from jaxpg.experiment import Player, build
from jaxpg.learners.evolution import EvolutionConfig
from jaxpg.learners.minibatches import rows_per_chunk
from jaxpg.learners.optimizers import OptimizerConfig
from jaxpg.learners.random_search import RandomSearchConfig
from jaxpg.learners.reinforce_config import ReinforceConfig
from jaxpg.machine import limits as machine
from jaxpg.machine import memory_estimate as sizes
from jaxpg.policies.networks import PolicyConfig, make_policy
from jaxpg.policies.observations import ObservationConfig
from jaxpg.record import RecordArguments
from jaxpg.viewing.replayed_episode import play
from tests.kernel.test_jax_rollout import walk

GB = 10**9
register_jax_environment("sized")(lambda config: walk())
VECTOR = ObservationConfig(name="vector")
COUNT = EnvConfig(backend="probe", game="Count", num_lanes=4)
SMALL = Config(env=COUNT, observation=VECTOR)


@pytest.fixture(autouse=True)
def _a_machine_of_8_gb(monkeypatch):
    monkeypatch.setattr(sizes, "usable_memory", lambda: 8 * GB)
    monkeypatch.setattr(sizes, "_in_use", lambda: GB // 2)


@pytest.fixture
def lanes_made(monkeypatch) -> list[int]:
    """The sizes of the pools that are made."""
    made: list[int] = []
    make_env = experiment_module.make_env

    def make(config, needs, num_lanes):
        made.append(num_lanes)
        return make_env(config, needs, num_lanes)

    monkeypatch.setattr(experiment_module, "make_env", make)
    return made


SEARCH = RandomSearchConfig(candidates=10_000_000)
LARGE = {
    "lanes": (Config(env=EnvConfig(num_lanes=65_536)), "env.num_lanes", "66 GB for 65536 emulators"),
    "ALE's lanes": (
        Config(env=EnvConfig(num_lanes=65_536, backend="ale", noop_max=0), observation=ObservationConfig(name="ram")),
        "env.num_lanes",
        "66 GB for 65536 emulators",
    ),
    "rollout": (
        dataclasses.replace(SMALL, reinforce=ReinforceConfig(rollout_agent_steps=2**31 - 1)),
        "reinforce.rollout_agent_steps",
        "a rollout of 2147483647 agent steps",
    ),
    "chunk": (
        Config(reinforce=ReinforceConfig(rollout_agent_steps=2**14, chunk_agent_steps=2**31 - 1)),
        "reinforce.chunk_agent_steps",
        "the gradient of 1048576 agent steps at once",
    ),
    "network": (
        dataclasses.replace(SMALL, policy=PolicyConfig(hidden=(65_536,) * 64)),
        "policy.hidden",
        "its optimizer and its gradient",
    ),
    "one optimizer's memory": (  # 3.2 GB of weights
        dataclasses.replace(
            SMALL, policy=PolicyConfig(hidden=(28_284, 28_284)), optimizer=OptimizerConfig(name="adam")
        ),
        "policy.hidden",
        "16 GB for a network of 80018",
    ),
    "games of a search": (
        dataclasses.replace(
            SMALL,
            run=RunConfig(learner="random_search"),
            random_search=dataclasses.replace(SEARCH, episodes_per_candidate=2**31 - 1),
        ),
        "random_search.episodes_per_candidate",
        "a queue of 21474836470000000 games",
    ),
    "games of a winner": (
        dataclasses.replace(
            SMALL, run=RunConfig(learner="random_search"), random_search=RandomSearchConfig(winner_episodes=2**31 - 1)
        ),
        "random_search.episodes_per_candidate",
        "a queue of 2147483647 games",
    ),
    "games of a generation": (
        dataclasses.replace(
            SMALL,
            run=RunConfig(learner="evolution"),
            evolution=EvolutionConfig(pairs=1_000_000, episodes_per_candidate=1000),
            optimizer=OptimizerConfig(schedule="constant"),
        ),
        "evolution.episodes_per_candidate",
        "a queue of 2000000000 games",
    ),
    "a network in each lane": (
        Config(
            env=dataclasses.replace(COUNT, num_lanes=4096),
            observation=VECTOR,
            policy=PolicyConfig(hidden=(1024, 1024)),
            run=RunConfig(learner="random_search"),
        ),
        "env.num_lanes",
        "17 GB for the weights of 4096 candidates",
    ),
}


@pytest.mark.parametrize(("config", "key", "what"), LARGE.values(), ids=LARGE.keys())
def test_what_exceeds_memory_is_refused_by_its_name_before_anything_is_made(config, key, what, lanes_made):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        UserError,
        match=r"of memory, of which .* but this machine or container has 8 GB; use less(, about \d+ % of that fits)?$",
    ) as caught:
        build(config)
    assert str(caught.value).startswith(f"{key}: the run needs about ")
    assert what in str(caught.value)
    assert lanes_made == [1], "one emulator says what the others would give"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB; imports take some


def test_a_player_needs_no_gradient_and_no_long_rollout():
    build(LARGE["rollout"][0], Player(COUNT)).rollout.close()
    with pytest.raises(UserError, match=r"^env\.num_lanes: "):
        build(Config(), Player(EnvConfig(num_lanes=65_536)))


def test_the_machines_own_memory_is_what_counts(monkeypatch):
    config = dataclasses.replace(SMALL, reinforce=ReinforceConfig(rollout_agent_steps=1000))
    build(config).rollout.close()
    monkeypatch.setattr(sizes, "usable_memory", lambda: 100_000)
    with pytest.raises(UserError, match="but this machine or container has 100 kB"):
        build(config)


def test_memory_that_is_in_use_already_counts(monkeypatch):
    monkeypatch.setattr(sizes, "_in_use", lambda: 8 * GB - 1000)
    sizes.check_memory([sizes.Part("a", "b", 1000)])
    with pytest.raises(UserError, match="1 kB for b, but .* has 8 GB, of which 8 GB are in use already; use less"):
        sizes.check_memory([sizes.Part("a", "b", 1001)])
    monkeypatch.undo()
    assert 30_000_000 < sizes._in_use() < machine.usable_memory()


@pytest.mark.parametrize("arguments", [("--episodes", "1000000000"), ("--episodes", str(10**30))])
def test_a_number_of_games_that_no_memory_holds_is_refused_before_anything_is_made(arguments, tmp_path):
    (tmp_path / "config.yaml").write_text(dump(SMALL))
    for command in (EvaluateArguments(), RecordArguments()):
        with pytest.raises(UserError, match="^episodes: the run needs about .* for a queue of 10+ games, but"):
            parse_play("evaluate", [str(tmp_path), *arguments], command)


def test_a_recorded_game_that_outgrows_memory_ends_with_a_sentence(monkeypatch):
    experiment = build(SMALL, Player(dataclasses.replace(COUNT, num_lanes=1), keeps_tape=True))
    monkeypatch.setattr(sizes, "_in_use", lambda: 8 * GB)
    with pytest.raises(UserError, match=r"^env\.max_episode_agent_steps: .* for 5 agent steps of a game, joined, but"):
        play(experiment, experiment.policy.init(jax.random.key(0)), 0)
    experiment.rollout.close()


def test_the_state_is_counted_to_the_byte():
    experiment = build(SMALL)
    params = experiment.policy.init(jax.random.key(0))
    assert sizes.num_bytes(params) == sum(leaf.nbytes for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("steps", [1, 12, 97, 7919, 2**20, 3 * 5 * 7 * 11 * 13])
@pytest.mark.parametrize("chunk", [1, 10, 1000, 2**31 - 1])
def test_chunks_are_the_largest_that_divide_the_update(steps, chunk):
    config = ReinforceConfig(rollout_agent_steps=steps, chunk_agent_steps=chunk)
    most = min(chunk // 2 or 1, steps)
    assert rows_per_chunk(config, 2, steps) == max(n for n in range(1, most + 1) if steps % n == 0)


def test_the_chunk_of_a_rollout_without_divisors_is_found_in_time():
    config = ReinforceConfig(rollout_agent_steps=2**31 - 1, chunk_agent_steps=2**31 - 2)
    assert rows_per_chunk(config, 1, 2**31 - 1) == 1  # a prime


class Device:
    """A device that says how much memory it has, or does not."""

    device_kind = "H200"

    def __init__(self, said):
        self._said = said

    def __str__(self) -> str:
        return "cuda:0"

    def memory_stats(self):
        if isinstance(self._said, Exception):
            raise self._said
        return self._said


ON_HOST, ON_DEVICE = sizes.Part("a", "b", 7 * GB), sizes.Part("c", "d", 3 * GB, on_device=True)


def test_an_accelerators_memory_is_the_devices_own():
    parts, mine = [ON_HOST, ON_DEVICE, ON_DEVICE], [ON_HOST, ON_DEVICE]
    sizes.check_memory(parts, mine, Device({"bytes_limit": 4 * GB, "bytes_in_use": GB}))
    with pytest.raises(UserError) as caught:
        sizes.check_memory(parts, mine, Device({"bytes_limit": 4 * GB, "bytes_in_use": GB + 10**7}))
    assert str(caught.value) == (
        "c: the run needs about 3 GB of memory on a device, of which 3 GB for d, but cuda:0 (H200) gives this process "
        "4 GB, of which 1 GB are in use already; use less, about 99 % of that fits"
    )
    with pytest.raises(
        UserError, match="^a: the run needs about 9 GB of memory, of which 9 GB for b, but this machine "
    ):
        sizes.check_memory([ON_HOST._replace(num_bytes=9 * GB), ON_DEVICE], mine, Device({"bytes_limit": 4 * GB}))


@pytest.mark.parametrize("said", [None, {}, {"bytes_limit": 0}, jax.errors.JaxRuntimeError("INVALID_ARGUMENT")])
def test_where_a_device_does_not_say_what_it_has_the_host_holds_everything(said):
    with pytest.raises(
        UserError, match="^a: the run needs about 10 GB of memory, .* but this machine or container has"
    ):
        sizes.check_memory([ON_HOST, ON_DEVICE], [ON_DEVICE], Device(said))
    assert sizes._device_memory(jax.local_devices()[0]) is None, "a processor has no memory of its own"


def test_a_gradient_keeps_the_input_and_the_layers_outputs():
    for name, outputs in (("nature", 20 * 20 * 32 + 9 * 9 * 64 + 7 * 7 * 64 + 512), ("mlp", 200)):
        shape = (84, 84, 4)
        policy = make_policy(PolicyConfig(name=name, hidden=(200,)), shape, 6, value=True)
        params = jax.eval_shape(policy.init, jax.random.key(0))
        kept = experiment_module._gradient_bytes(policy, params, shape)
        assert kept == 4 * (84 * 84 * 4 + outputs + 6 + 1)


def test_what_lies_on_a_device_is_counted_to_the_byte(monkeypatch):
    """One byte less than the tape, the network with its optimizer and gradient, and a batch's gradient is refused."""
    config = dataclasses.replace(
        SMALL, policy=PolicyConfig(hidden=(32,)), reinforce=ReinforceConfig(rollout_agent_steps=1000)
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "cuda")
    experiment = build(config)
    experiment.fleet.close()
    params = experiment.policy.init(jax.random.key(0))
    weights = sizes.num_bytes(params)
    state = sizes.num_bytes(jax.eval_shape(experiment.learner.init, jax.random.key(0), params))
    actions, (inputs,) = experiment.rollout.pools[0].spec.num_actions, experiment.rollout.encoded.shape
    row = 4 * inputs + 8 + 4 * actions  # the tape's
    rollout = 1001 * 4 * (row + 8 + 4 * actions)
    gradient = 1000 * 4 * 4 * (inputs + 32 + actions + 1)
    needed = rollout + state + 2 * weights + gradient
    monkeypatch.setattr(sizes, "_device_memory", lambda device: (needed, 0))
    build(config).fleet.close()
    monkeypatch.setattr(sizes, "_device_memory", lambda device: (needed - 1, 0))
    with pytest.raises(
        UserError, match=r"^reinforce\.minibatch_agent_steps: .* for the gradient of 4000 agent steps at"
    ):
        build(config)


def test_lanes_in_jax_take_what_their_arrays_take():
    config = Config(env=EnvConfig(backend="sized", num_lanes=64), observation=VECTOR)
    experiment = build(config)
    (pool,) = experiment.rollout.pools
    pool.reset(np.arange(64))
    taken = sum(leaf.nbytes for leaf in jax.tree.leaves(pool.lanes))
    _, lane_bytes = experiment_module._spec(config.env, experiment.observation.needs)
    part = footprint.emulators(config.env, experiment.observation.needs, lane_bytes)
    assert (64 * lane_bytes, part.num_bytes, part.on_device) == (taken, 2 * taken, True)
    assert taken < 64 * 1000, "not that of an emulator"
