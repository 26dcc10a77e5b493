"""Policy gradients, random search and evolution through one rollout kernel, in JAX.

This module is the public interface. Each name is imported when it is first used, so ``import jaxpg`` takes no time.

- ``load_recipe`` makes a configuration, and ``train`` trains a policy with it.
- ``evaluate``, ``record`` and ``report`` measure and show how good the policy is.
- ``export`` writes the policy as one function for programs without jaxpg.
- ``push`` puts a run on the Hugging Face Hub, and ``pull`` fetches one.
- ``tune`` searches for settings of a recipe.
- ``suite`` trains recipes on several games with several seeds, and compares them.
- ``load_policy`` returns the trained policy as a function of observations.
- ``register_policy``, ``register_observation``, ``register_environment``, ``register_jax_environment``,
  ``register_learner`` and ``register_writer`` are decorators that add your own classes and functions. Every command
  then knows them by name.

The functions print nothing: progress and remarks go to the logger ``jaxpg``. A user's mistake raises ``UserError``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def _is_command() -> bool:
    """Whether this process runs ``python -m jaxpg...`` or the script ``jaxpg``, not a program that imports jaxpg."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":
        return any(word.removeprefix("-m").split(".")[0] == "jaxpg" for word in sys.orig_argv)
    return program.rpartition("/")[2] == "jaxpg"


if _is_command():  # must come before the slow imports
    from jaxpg.machine.beginning import begin_command

    begin_command()

if TYPE_CHECKING:
    from jaxpg.cli import open_recipe as load_recipe
    from jaxpg.config import Config
    from jaxpg.core.errors import FaultError, UserError
    from jaxpg.core.types import JaxEnvironment, JaxStep
    from jaxpg.envs import register_environment, register_jax_environment
    from jaxpg.evaluate import evaluate, load_policy
    from jaxpg.export import export
    from jaxpg.kernel.trained_policy import Decision, TrainedPolicy
    from jaxpg.learners.registry import register_learner
    from jaxpg.policies import register_observation, register_policy
    from jaxpg.pull import pull
    from jaxpg.push import push
    from jaxpg.record import record
    from jaxpg.report import report
    from jaxpg.run import register_writer
    from jaxpg.run.session import TrainResult
    from jaxpg.scores.evaluation_file import Evaluation
    from jaxpg.scores.study_file import StudyResults
    from jaxpg.scores.suite_file import SuiteResults
    from jaxpg.suite import suite
    from jaxpg.train import train
    from jaxpg.tune import tune

_PLACES = {
    "load_recipe": "jaxpg.cli:open_recipe",
    "Config": "jaxpg.config:Config",
    "FaultError": "jaxpg.core.errors:FaultError",
    "UserError": "jaxpg.core.errors:UserError",
    "JaxEnvironment": "jaxpg.core.types:JaxEnvironment",
    "JaxStep": "jaxpg.core.types:JaxStep",
    "register_environment": "jaxpg.envs:register_environment",
    "register_jax_environment": "jaxpg.envs:register_jax_environment",
    "evaluate": "jaxpg.evaluate:evaluate",
    "register_learner": "jaxpg.learners.registry:register_learner",
    "register_observation": "jaxpg.policies:register_observation",
    "register_policy": "jaxpg.policies:register_policy",
    "Decision": "jaxpg.kernel.trained_policy:Decision",
    "TrainedPolicy": "jaxpg.kernel.trained_policy:TrainedPolicy",
    "load_policy": "jaxpg.evaluate:load_policy",
    "export": "jaxpg.export:export",
    "push": "jaxpg.push:push",
    "pull": "jaxpg.pull:pull",
    "record": "jaxpg.record:record",
    "report": "jaxpg.report:report",
    "register_writer": "jaxpg.run:register_writer",
    "TrainResult": "jaxpg.run.session:TrainResult",
    "Evaluation": "jaxpg.scores.evaluation_file:Evaluation",
    "StudyResults": "jaxpg.scores.study_file:StudyResults",
    "SuiteResults": "jaxpg.scores.suite_file:SuiteResults",
    "suite": "jaxpg.suite:suite",
    "train": "jaxpg.train:train",
    "tune": "jaxpg.tune:tune",
}
"""Module and attribute of each public name."""

__all__ = [
    "Config",
    "Decision",
    "Evaluation",
    "FaultError",
    "JaxEnvironment",
    "JaxStep",
    "StudyResults",
    "SuiteResults",
    "TrainResult",
    "TrainedPolicy",
    "UserError",
    "__version__",
    "evaluate",
    "export",
    "load_policy",
    "load_recipe",
    "pull",
    "push",
    "record",
    "register_environment",
    "register_jax_environment",
    "register_learner",
    "register_observation",
    "register_policy",
    "register_writer",
    "report",
    "suite",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'jaxpg' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    globals()[name] = found = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return __all__
