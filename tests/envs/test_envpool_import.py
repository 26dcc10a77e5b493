"""EnvPool's suites besides Atari are loaded when they are asked for, in a process that has not imported EnvPool yet."""

import json
import subprocess
import sys

from jaxpg.envs import envpool_import

SCRIPT = f"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("ours", {envpool_import.__file__!r})
ours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)
envpool = ours.import_envpool()
from envpool.registration import registry
atari = "Pong-v5" in registry.specs
few = [name for name in ("matplotlib", "envpool.box2d.registration", "envpool.entry") if name in sys.modules]
spec = envpool.make_spec("CartPole-v1")
assert ours.import_envpool() is envpool
print(json.dumps([atari, few, spec.config.num_envs, "Nothing-v1" in registry.specs, envpool.list_all_envs()]))
"""
ORDINARY = "import envpool, json; print(json.dumps(envpool.list_all_envs()))"


def _said(script: str):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_other_suites_are_loaded_when_someone_asks_for_them() -> None:
    atari, few, lanes, nothing, tasks = _said(SCRIPT)
    assert (atari, few, lanes, nothing) == (True, [], 1, False)
    assert sorted(tasks) == sorted(_said(ORDINARY))
    assert set(tasks) == set(envpool_import.all_tasks()), "of this process, whoever imported EnvPool first"
