"""An environment of the user's own: what it raises or answers wrongly is a sentence, and the run is saved."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jaxpg.core.errors import FaultError, UserError
from jaxpg.core.types import EmulatorNeeds, EnvSpec, TimeStep
from jaxpg.envs import BACKENDS, make_env
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.probes import Probe
from tests.runs import records, run

NEEDS = EmulatorNeeds(kind="vector")
CONFIG = EnvConfig(backend="mine", game="x")


class Mine:
    """Games of five agent steps. Each answer goes through ``spoilt``."""

    def __init__(self, config: EnvConfig, needs: EmulatorNeeds, num_lanes: int):
        self.num_lanes = num_lanes
        self.spec = EnvSpec(num_actions=2, observation_shape=(3,), observation_dtype=np.dtype(np.float32), axes=(0,))
        self._time = 0

    def reset(self, seeds: np.ndarray) -> None:
        self._time = 0

    def send(self, actions: np.ndarray) -> None:
        self._time += 1

    def recv(self) -> Any:
        nothing = np.zeros(self.num_lanes, bool)
        ends, acted = np.full(self.num_lanes, self._time % 6 == 5), np.full(self.num_lanes, self._time % 6 > 0)
        observation = np.zeros((self.num_lanes, 3), np.float32)
        return self.spoilt(TimeStep(observation, acted.astype(np.float32), ends, nothing, nothing, acted))

    def spoilt(self, step: TimeStep) -> Any:
        return step

    def close(self) -> None:
        pass


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers ``Mine`` as a backend, with some attributes replaced."""

    def register(**changed: Any) -> None:
        monkeypatch.setitem(BACKENDS._entries, "mine", type("Changed", (Mine,), changed))

    return register


def _lacks_spec(self: Any, config: EnvConfig, needs: EmulatorNeeds, num_lanes: int) -> None:
    self.num_lanes = num_lanes


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda *given: 1 // 0, f"{__file__}:"),
        (lambda *given: None, "its spec must be an EnvSpec, not NoneType"),
        (type("Lacks", (Mine,), {"__init__": _lacks_spec}), "its spec must be an EnvSpec, not NoneType"),
        (lambda *given: Mine(*given[:2], 7), "its num_lanes must be 2, as asked for, not 7"),
    ],
)
def test_what_cannot_be_made_is_a_sentence(make, sentence, monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS._entries, "mine", make)
    with pytest.raises(UserError) as refused:
        make_env(CONFIG, NEEDS, 2)
    assert str(refused.value).startswith(f"env.backend: 'mine': {sentence}")


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        (lambda self, step: tuple(step), "it must return a TimeStep, not tuple"),
        (
            lambda self, step: step._replace(observation=step.observation[:, :2]),
            "the observation must have the shape (2, 3)",
        ),
        (lambda self, step: step._replace(reward=0.0), "the reward must have the shape (2,), not ()"),
        (lambda self, step: step._replace(reward=step.reward * np.nan), "the reward is infinite or NaN"),
        (lambda self, step: step._replace(observation=step.observation + np.inf), "the observation is infinite or NaN"),
        (lambda self, step: 1 // 0, f"{__file__}:"),
    ],
)
def test_a_wrong_answer_is_a_fault_with_a_sentence(spoilt, sentence, register) -> None:
    register(spoilt=spoilt)
    env = make_env(CONFIG, NEEDS, 2)
    env.reset(np.arange(2))
    with pytest.raises(FaultError) as failed:
        env.recv()
    assert str(failed.value).startswith(f"env.backend: 'mine': recv: {sentence}")


def test_an_answer_in_other_types_is_converted_and_a_right_one_is_the_same(register) -> None:
    register(spoilt=lambda self, step: step._replace(reward=[1, 2], acted=np.array([0, 1])))
    env = make_env(CONFIG, NEEDS, 2)
    env.reset(np.arange(2))
    step = env.recv()
    assert (step.reward.dtype, step.acted.dtype) == (np.float32, bool)
    np.testing.assert_array_equal(step.reward, [1, 2])
    np.testing.assert_array_equal(step.acted, [False, True])


@pytest.mark.long
def test_a_start_that_fails_before_it_trains_leaves_a_folder_in_which_the_same_command_begins_anew(
    register, tmp_path, capsys
) -> None:
    folder = tmp_path / "run"
    recipe = ("cartpole", "--env.backend", "mine", "--env.game", "x", "--env.num-lanes", "2", "--run.writers")
    recipe = (
        *recipe,
        "--reinforce.rollout-agent-steps",
        "6",
        "--run.budget-agent-steps",
        "12",
        "--run.dir",
        str(folder),
    )
    register(send=lambda self, actions: 1 // 0)
    run(*recipe, code=1)
    assert (folder / "checkpoints" / "0").is_dir()
    capsys.readouterr()
    register()
    run(*recipe, "--policy.hidden", "7")
    assert (
        f"jaxpg: {folder}: an earlier start trained nothing there, and the run begins anew\n" in capsys.readouterr().out
    )
    assert [record["iteration"] for record in records(folder)] == [1]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["1"]
    run(*recipe, code=2)
    assert "holds a run already; go on with --resume" in capsys.readouterr().err


def test_jaxpgs_own_environments_are_not_guarded() -> None:
    assert isinstance(make_env(EnvConfig(backend="probe", game="Count"), NEEDS, 2), Probe)


def test_a_run_is_saved_when_ones_own_environment_fails(register, tmp_path, capsys) -> None:
    """After the first iteration, with exit code 1; the run goes on where the environment is mended."""

    def fails_at_9(self: Mine, actions: np.ndarray) -> None:
        Mine.send(self, actions)
        if self._time == 9:
            raise KeyError("no such level")

    folder, lanes = tmp_path / "run", 2
    recipe = ("cartpole", "--env.backend", "mine", "--env.game", "x", "--env.num-lanes", str(lanes))
    recipe = (*recipe, "--reinforce.rollout-agent-steps", "6", "--run.budget-agent-steps", str(3 * 6 * lanes))
    register(send=fails_at_9)
    run(*recipe, "--run.writers", "--run.dir", str(folder), code=1)
    said = capsys.readouterr()
    assert said.err.startswith(f"jaxpg: {folder}: env.backend: 'mine': send: {__file__}:")
    assert "KeyError: 'no such level'" in said.err
    assert said.err.count("\n") == 1
    assert "no such level" not in said.out, "once is enough"
    assert "jaxpg: ended by a fault; 12 agent steps, 2 games in " in said.out
    register()
    run("--resume", str(folder), "--checkpoint.no-replay")
    assert [record["iteration"] for record in records(folder)] == [1, 2, 3]
