"""What is wrong with a user's Gymnasium environment is one sentence that names the place."""

import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from jaxpg.core.errors import FaultError, UserError
from jaxpg.core.types import DrawingEnv
from jaxpg.core.user_modules import import_all
from jaxpg.envs import make_display
from tests.envs.odd_lanes import VECTOR, config_of, made, played, register


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


FAULTS = {
    "reset": r"Odd-v0, lane 0: reset raised ValueError: no reset today \(.*odd_environment.py:\d+\)$",
    "raise": r"Odd-v0, lane 0: step raised RuntimeError: the rope broke \(.*odd_environment.py:\d+\)$",
    "exit": "Odd-v0, lane 0: step raised SystemExit: out of here",
    "reward": "Odd-v0, lane 0: its reward is not finite: nan$",
    "observation": r"Odd-v0, lane 0: its observation is not finite: \[inf *0",
    "shape": r"Odd-v0, lane 0: its observation is float64\[3\], but its observation_space says float64\[2\] "
    r"\(.*odd_environment.py:\d+: Odd\)$",
    "dtype": r"Odd-v0, lane 0: its observation is <U1\[2\], but its observation_space says float64\[2\]",
    "four": r"Odd-v0, lane 0: .*odd_environment.py:\d+: Odd.step must return \(observation, reward, terminated, "
    r"truncated, info\): not enough values to unpack \(expected 5, got 4\)$",
    "swapped": r"Odd-v0, lane 0: .*: Odd.step must return .*, info\): float\(\) argument must be a string or",
    "flags": r"Odd-v0, lane 0: .*: Odd.step must return .*, info\): The truth value of an array .* is ambiguous",
    "numpy": r"Odd-v0, lane 0: step raised ValueError: cannot reshape array .* \(.*odd_environment.py:\d+\)$",
    "lie": "Odd-v0, lane 0: info.*is True, but step returned terminated=True and truncated=False",
    "silent": "Odd-v0, lane 0: info.*is False, but step returned terminated=False and truncated=True",
}


@pytest.mark.parametrize("does", FAULTS)
def test_what_goes_wrong_in_an_environment_is_one_sentence(does: str) -> None:
    env = made(config_of(does=does))
    with pytest.raises(FaultError, match=FAULTS[does]):
        played(env, 9)
    env.close()


def test_an_environment_that_was_imported_and_not_registered_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import gymnasium\n\n\nclass Base(gymnasium.Env):\n    pass\n\n\nclass Whole(Base):\n    pass\n\n\n"
        "class Forgotten(gymnasium.Env):\n    pass\n\n\ngymnasium.register('Whole-v0', Whole)\n"
        "for name in 'ABC':\n    globals()[name] = type(name, (gymnasium.Env,), {'__module__': __name__})\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxpg.core.user_modules._IMPORTED", {})
        import_all([str(file)])
        with pytest.raises(UserError) as refused:
            made(config_of("Missing-v0"))
    gymnasium.registry.pop("Whole-v0")
    assert str(refused.value) == (
        "env.game: Gymnasium knows no environment 'Missing-v0'; an environment of yours has no id: "
        f"{file}:12: Forgotten, A, B and 1 more; "
        "write gymnasium.register('Missing-v0', Forgotten) below it"
    )


METHODS = {
    "NoSeed": r"NoSeed.reset takes \(self\), but must take \(self, \*, seed, options\)$",
    "ObservationAlone": r"ObservationAlone.reset must return \(observation, info\): the info is a dict, not float64$",
    "NoReset": r"NoReset has no method reset\(self, \*, seed, options\)$",
    "NoStep": r"NoStep has no method step\(self, action\)$",
    "NoAction": r"NoAction.step takes \(self\), but must take \(self, action\)$",
    "Nothing": r"Nothing.step must return .*: cannot unpack non-iterable NoneType object$",
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_takes_or_returns_something_else_is_named_with_its_place(name: str) -> None:
    env = made(config_of(f"{name}-v0", num_lanes=1))
    with pytest.raises(FaultError, match=rf"^{name}-v0, lane 0: .*odd_environment.py:\d+: {METHODS[name]}"):
        played(env, 1)
    env.close()


PICTURES = {
    "TakesNoMode": (r"lists rgb_array in its metadata, but its __init__ takes no render_mode; give it", None),
    "KeepsNoMode": (
        r"lists rgb_array in its metadata, but its __init__ does not keep it; give it render_mode=None",
        None,
    ),
    "NoRender": ("", r"NoRender has no method render\(self\)"),
    "RendersNothing": ("", r"RendersNothing.render must return a picture, uint8\[H, W, 3\], not nothing$"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_an_environment_that_lists_pictures_and_draws_none_is_named(name: str, capsys: pytest.CaptureFixture) -> None:
    display = make_display(config_of(f"{name}-v0", num_lanes=1), VECTOR)
    assert isinstance(display, DrawingEnv)
    display.reset(np.array([1]))
    display.recv()
    said, failure = PICTURES[name]
    place = rf".*odd_environment.py:\d+: {name}"
    if failure:
        with pytest.raises(FaultError, match=rf"^{name}-v0, lane 0: .*odd_environment.py:\d+: {failure}"):
            display.picture()
        assert capsys.readouterr() == ("", "")
    else:
        assert display.picture() is None
        assert re.match(
            rf"^jaxpg: {name}-v0 is shown as numbers, not as pictures: {place} {said}", capsys.readouterr().out
        )
    display.close()
