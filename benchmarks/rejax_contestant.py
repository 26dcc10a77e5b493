"""rejax's PPO as one side of a speed comparison, with the protocol of ``contestant.py``.

  PYTHON_OF_REJAX benchmarks/rejax_contestant.py CartPole-v1

rejax needs gymnax below version 1, so it has an environment of its own, which need not have jaxpg. Ten iterations are
one program, so that rejax returns to Python as rarely as in its own training.
"""

import json
import sys
import time

import jax
from rejax import PPO

LANES, STEPS, ITERATIONS = 64, 128, 10


def main() -> None:
    """Runs the command."""
    algorithm = PPO.create(
        env=sys.argv[1],
        num_envs=LANES,
        num_steps=STEPS,
        num_epochs=4,
        num_minibatches=4,
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "swish"},
    )

    @jax.jit
    def train(state):
        return jax.lax.scan(lambda now, _: (algorithm.train_iteration(now), None), state, None, ITERATIONS)[0]

    state = jax.block_until_ready(train(algorithm.init_state(jax.random.key(0))))
    print(json.dumps({"game": sys.argv[1]}), flush=True)
    for line in sys.stdin:
        start, agent_steps = time.perf_counter(), 0
        while not agent_steps or time.perf_counter() - start < float(line):
            state = jax.block_until_ready(train(state))
            agent_steps += LANES * STEPS * ITERATIONS
        print(json.dumps({"agent_steps": agent_steps, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
