"""``python -m tests.parallel.together FOLDER PROCESSES PROCESS ADDRESS|auto RUN...``: small runs in turn, by one team.

Starting processes takes far longer than these runs, so that all that needs several is tried in one start.
"""

import sys
from pathlib import Path

from jaxpg.cli import parse_train
from jaxpg.core.errors import UserError
from jaxpg.machine.console import speak
from jaxpg.machine.signals import Stop
from jaxpg.machine.xla import keep_compiled_code
from jaxpg.parallel.processes import DistributedConfig, joined_team
from jaxpg.parallel.team import Team
from jaxpg.train import train_together, wishes_of

LANES = 64
CARTPOLE = [
    *("--env.game", "CartPole-v1", "--observation.name", "vector", "--env.num-lanes", str(LANES)),
    *("--env.num-threads", "1", "--checkpoint.every-iterations", "1", "--checkpoint.keep-newest", "9"),
]
PER_ITERATION = LANES * 8
REINFORCE = [
    *(*CARTPOLE, "--policy.hidden", "8", "--reinforce.rollout-agent-steps", "8", "--reinforce.td-lambda", "0.9"),
    *("--reinforce.baseline", "value", "--reinforce.entropy-bonus", "0.01"),
    *("--optimizer.name", "sgd", "--optimizer.schedule", "constant", "--optimizer.max-gradient-norm", "0"),
    *("--optimizer.learning-rate", "0.5"),
]
RUNS = {
    "reinforce": [
        *(*REINFORCE, "--run.budget-agent-steps", str(4 * PER_ITERATION)),
        *("--reinforce.normalize-observations", "--reinforce.normalize-advantage"),
    ],
    "clipped": [
        *(*REINFORCE, "--run.budget-agent-steps", str(2 * PER_ITERATION), "--optimizer.learning-rate", "0.1"),
        *("--reinforce.epochs", "2", "--reinforce.minibatch-agent-steps", str(PER_ITERATION // 2)),
    ],
    "random_search": [
        *(*CARTPOLE, "--run.learner", "random_search", "--run.lane-groups", "8", "--policy.name", "linear"),
        *("--random-search.candidates", "150", "--random-search.finalists", "4"),
        *("--random-search.winner-episodes", "5"),
    ],
    "evolution": [
        *(*CARTPOLE, "--run.learner", "evolution", "--run.lane-groups", "8", "--policy.name", "linear"),
        *("--evolution.pairs", "48", "--evolution.generations", "2", "--evolution.normalize-observations"),
    ],
}
LONG = [*REINFORCE, "--run.budget-agent-steps", "1000000000"]
"""Until somebody ends it."""


def train(team: Team, argv: list[str]) -> int:
    arguments = parse_train(argv)
    result = train_together(arguments.config, team, Stop(), wishes_of(arguments))
    return 1 if result.fault or result.unsaved else 128 + result.signal if result.signal is not None else 0


def main() -> int:
    folder, processes, process, address = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    keep_compiled_code()
    speak()  # as a command does
    if processes == 1:
        together = DistributedConfig()
    elif address == "auto":
        together = DistributedConfig(auto=True)
    else:
        together = DistributedConfig(coordinator_address=address, num_processes=processes, process_id=process)
    with joined_team(together) as team:
        for name in sys.argv[5:]:
            code = train(team, [*RUNS[name], "--run.dir", str(folder / name)])
            assert code == 0, (name, code)
        for copy in sorted(folder.glob("copy*")):
            code = train(team, ["--resume", str(copy), "--run.budget-agent-steps", str(6 * PER_ITERATION)])
            assert code == 0, (copy, code)
        for wrong in (["--env.num-lanes", "63"], ["--run.dir", str(folder / "reinforce")]):
            try:
                train(team, [*RUNS["reinforce"], *wrong])
            except UserError as error:
                print("refused:", error, flush=True)
        return train(team, [*LONG, "--run.dir", str(folder / "long")]) if processes > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
