"""What does not fit into memory is refused by name, before an emulator is made and before anything is allocated."""

import dataclasses
import resource

import jax
import pytest

from jaxpg import experiment as experiment_module
from jaxpg.cli import parse_play
from jaxpg.config import Config, RunConfig, dump
from jaxpg.core.errors import UserError
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
from jaxpg.policies.networks import PolicyConfig
from jaxpg.policies.observations import ObservationConfig
from jaxpg.record import RecordArguments
from jaxpg.viewing.replayed_episode import play

GB = 10**9
VECTOR = ObservationConfig(name="vector")
COUNT = EnvConfig(backend="probe", game="Count", num_lanes=4)
SMALL = Config(env=COUNT, observation=VECTOR)


@pytest.fixture(autouse=True)
def _a_machine_of_8_gb(monkeypatch):
    monkeypatch.setattr(sizes, "usable_memory", lambda: 8 * GB)


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
        UserError, match="of memory, of which .* but this machine or container has 8 GB; use less$"
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
    with pytest.raises(UserError, match="a: the run needs about 1 kB of memory, of which 1 kB for b"):
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
