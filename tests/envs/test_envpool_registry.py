"""EnvPool's suites are imported when they are needed, and nobody who uses EnvPool itself notices it."""

import subprocess
import sys

import pytest

DEAR = "envpool.jumanji"
BEGINNING = f"""
import sys
from jaxpg.envs.config import EnvConfig
from jaxpg.envs.envpool import EnvPool, kind
from jaxpg.core.types import EmulatorNeeds
def has_dear():
    return "{DEAR}" in sys.modules or "matplotlib" in sys.modules
"""


def _ends_well(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGINNING + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "making",
    [
        'EnvPool(EnvConfig(game="Pong"), EmulatorNeeds(kind="pixels", height=84, width=84), 1)',
        'EnvPool(EnvConfig(game="CartPole-v1"), EmulatorNeeds(kind="vector"), 1)',
    ],
    ids=["Atari", "classic control"],
)
def test_what_is_not_played_is_not_imported(making: str) -> None:
    _ends_well(f"{making}\nassert 'envpool' in sys.modules and not has_dear()")


@pytest.mark.parametrize(
    "use",
    [
        "len(envpool.list_all_envs()) > 700",
        'envpool.make_spec("Snake-v1")',
        'len(__import__("envpool.registration", fromlist=["registry"]).registry.specs) > 700',
    ],
    ids=["all", "one", "registry"],
)
def test_programs_that_use_envpool_see_all_of_it(use: str) -> None:
    _ends_well(f"""
EnvPool(EnvConfig(game="CartPole-v1"), EmulatorNeeds(kind="vector"), 1)
assert not has_dear()
import envpool
assert {use}
assert has_dear()
assert kind("CartPole-v1") == "vector"
""")


def test_it_stays_as_it_is_where_it_was_imported_before() -> None:
    _ends_well("""
import envpool
assert has_dear()
EnvPool(EnvConfig(game="CartPole-v1"), EmulatorNeeds(kind="vector"), 1)
assert type(envpool) is type(sys)
""")


def test_the_other_suites_are_found() -> None:
    _ends_well("""
from jaxpg.core.errors import UserError
try:
    kind("Snake-v1")
except UserError as error:
    assert "several arrays" in str(error), error
assert has_dear()
""")
