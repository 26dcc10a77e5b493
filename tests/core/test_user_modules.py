"""Code of a user's own: how its mistakes become sentences."""

from pathlib import Path
from typing import Any

import pytest

from jaxpg.core.errors import UserError
from jaxpg.core.user_modules import own_code, wrong_signature


class Mine:
    def step(self, action: int) -> None:
        raise TypeError("in the method itself")

    def reset(self, *, seed: int) -> None:
        pass

    def render(self, *given: Any, **named: Any) -> None:
        pass


def make(config: object, more: object) -> None:
    pass


def _place(words: str) -> str:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(i for i, line in enumerate(lines, start=1) if line.strip().startswith(words))}: "


@pytest.mark.parametrize(
    ("code", "takes", "sentence"),
    [
        (Mine, "step(self, action)", ""),
        (Mine, "reset(self, *, seed)", ""),
        (Mine, "render(self, a, *, b)", ""),
        (make, "(config, more)", ""),
        (make, "__init__(self, config, more)", ""),
        (len, "(x)", ""),
        (dict, "__init__(self, x)", ""),
        (3, "(x)", ""),
        (Mine, "step(self)", f"{_place('def step')}Mine.step takes (self, action), but must take (self)"),
        (
            Mine,
            "reset(self, *, seed, options)",
            f"{_place('def reset')}Mine.reset takes (self, seed), but must take (self, *, seed, options)",
        ),
        (Mine, "close(self)", f"{_place('class Mine')}Mine has no method close(self)"),
        (make, "(config)", f"{_place('def make')}make takes (config, more), but must take (config)"),
        (make, "__init__(self, a)", f"{_place('def make')}make takes (config, more), but must take (a)"),
    ],
)
def test_a_signature_that_cannot_be_called_is_named_with_the_right_one(code: Any, takes: str, sentence: str) -> None:
    assert wrong_signature(code, takes) == sentence


def test_a_type_error_inside_the_code_is_not_taken_for_a_wrong_signature() -> None:
    place = _place('raise TypeError("in')
    with pytest.raises(UserError) as refused, own_code("mine", Mine, "step(self, action)"):
        Mine().step(1)
    assert str(refused.value) == f"mine: {place}TypeError: in the method itself"
    with pytest.raises(UserError) as refused, own_code("mine", Mine, "step(self)"):
        Mine().step()  # type: ignore[call-arg]
    assert str(refused.value).endswith("Mine.step takes (self, action), but must take (self)")
