"""Measures what several processes cost: the training speed with 1, 2 or more processes, and the exchanged data.

  python benchmarks/distributed.py                     trains the default recipe in 1 and in 2 processes
  python benchmarks/distributed.py --travel            times a gather and the sum of a gradient
  python benchmarks/distributed.py --model             predicts the speed of 1 to 512 hosts from the given figures
  python benchmarks/distributed.py --delays-ms 5 20    trains in 2 processes and delays every exchange

The set-ups take turns. Each turn is a separate run of ``python -m jaxpg.launch``, timed by the lines of its
metrics.jsonl.
"""

import argparse
import json
import math
import os
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.parallel.children import free_port
from jaxpg.parallel.processes import DistributedConfig, joined_team
from jaxpg.parallel.team import Team

WARM_ITERATIONS = 8


class Host(NamedTuple):
    """The work of one host in one iteration, and the data that it sends to the other hosts."""

    seconds_per_agent_step: float
    """Seconds per agent step of a single host that uses all its cores."""
    agent_steps: int
    """Agent steps of the host's lanes in one iteration."""
    gradient_bytes: float
    updates: int
    """Updates of the weights in one iteration."""


class Network(NamedTuple):
    """The network between hosts."""

    latency_seconds: float
    bytes_per_second: float


GATHERS = 3
"""Gathers in one iteration: the finished episodes, the data for the returns, and the signals that all must act on."""
BYTES_PER_AGENT_STEP = 24
"""Bytes per agent step that all hosts exchange: reward, value and four flags, as float32."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="how many (default 1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a turn (default 10)")
    parser.add_argument("--travel", action="store_true", help="time the exchanges alone")
    parser.add_argument("--gradient-bytes", type=int, default=5_700_000, help="of all weights (default: the MLP's)")
    parser.add_argument("--model", action="store_true", help="print the table of hosts")
    parser.add_argument("--microseconds", type=float, default=280, help="of an agent step on one host (model)")
    parser.add_argument("--agent-steps", type=int, default=512, help="of a host in one iteration (model)")
    parser.add_argument("--updates", type=int, default=1, help="of the weights in one iteration (model)")
    parser.add_argument("--latency-ms", type=float, default=0.1, help="between two hosts (model)")
    parser.add_argument("--gbit", type=float, default=10.0, help="per second, of a host's network (model)")
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[], help="of each exchange, made by sleeping")
    parser.add_argument("--delayed", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--member", nargs=3, metavar=("ADDRESS", "PROCESSES", "PROCESS"), help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help="recipe and flags for the training command, after --")
    arguments = parser.parse_args()
    if arguments.member:
        _travel_as_member(arguments)
    elif arguments.delayed is not None:
        _train_delayed(arguments.delayed * 1e-3, arguments.flags)
    elif arguments.delays_ms:
        _delays(arguments)
    elif arguments.travel:
        _travel(arguments)
    elif arguments.model:
        _model(arguments)
    else:
        _train(arguments)


def _train(arguments: argparse.Namespace) -> None:
    speeds: dict[int, list[float]] = {processes: [] for processes in arguments.processes}
    for number in range(arguments.rounds):
        for processes in arguments.processes:
            speeds[processes].append(_turn(processes, arguments.seconds, arguments.flags))
            print(f"round {number + 1}: {processes} processes {speeds[processes][-1]:,.0f} agent steps/s", flush=True)
    base = speeds[arguments.processes[0]]
    print("\n| processes | agent steps/s (lowest to highest) | **ratio to the first** |\n|---|---|---|")
    for processes, measured in speeds.items():
        ratios = [x / y for x, y in zip(measured, base, strict=True)]
        print(
            f"| {processes} | {statistics.median(measured):,.0f} ({min(measured):,.0f} to {max(measured):,.0f}) "
            f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def _turn(processes: int, seconds: float, flags: list[str], delay_ms: float = 0.0) -> float:
    """Agent steps per second of a run after its first iterations."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "jaxpg.launch"]
        if delay_ms:
            train = [sys.executable, __file__, "--delayed", str(delay_ms), "--"]
            command[1:] = ["-c", f"import sys; from jaxpg.launch import main; main(sys.argv[1:], {train!r})"]
        command += ["--processes", str(processes), "--", *flags]
        command += ["--run.dir", str(run), "--checkpoint.every-seconds", "0", "--run.target-return", "None"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            begun, began = _wait(process, run, WARM_ITERATIONS)
            time.sleep(seconds)
            ended, at = _wait(process, run, begun["iteration"] + 1)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate()
        if process.returncode != 128 + signal.SIGTERM:
            sys.exit(f"a run ended with code {process.returncode}: {said}")
    return float((ended["agent_steps"] - begun["agent_steps"]) / (at - began))


def _wait(process: subprocess.Popen[str], run: Path, iteration: int) -> tuple[dict[str, float], float]:
    """Waits for a new line of metrics of this iteration or a later one. Returns the line and its time of arrival."""
    metrics = run / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else -1
    while process.poll() is None:
        now = metrics.stat().st_size if metrics.exists() else -1
        if now > size:
            at, size = time.perf_counter(), now
            lines = metrics.read_text().splitlines()
            if lines and (row := json.loads(lines[-1]))["iteration"] >= iteration:
                return row, at
        time.sleep(0.002)
    sys.exit(f"a run ended with code {process.returncode}")


def _delays(arguments: argparse.Namespace) -> None:
    """Delays every exchange and compares the time of an iteration with the model's prediction."""
    speeds: dict[float, list[float]] = {delay: [] for delay in (0.0, *arguments.delays_ms)}
    for _ in range(arguments.rounds):
        for delay, measured in speeds.items():
            measured.append(_turn(2, arguments.seconds, arguments.flags, delay))
            print(f"{delay:g} ms: {measured[-1]:,.0f} agent steps/s", flush=True)
    undelayed = _iteration_ms(arguments, speeds[0.0])
    print("\n| delay, ms | an iteration, ms | predicted, ms |\n|---|---|---|")
    for delay, measured in speeds.items():
        predicted = undelayed + (GATHERS + arguments.updates) * delay
        print(f"| {delay:g} | {_iteration_ms(arguments, measured):.0f} | {predicted:.0f} |")


def _iteration_ms(arguments: argparse.Namespace, speeds: list[float]) -> float:
    return 1e3 * float(arguments.agent_steps) / statistics.median(speeds)


def _train_delayed(seconds: float, argv: list[str]) -> None:
    """Runs the training command with a delay of ``seconds`` in each exchange between processes."""

    def delayed(exchange: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **named: Any) -> Any:
            time.sleep(seconds)
            return exchange(*arguments, **named)

        return slow

    for name in ("gather", "sharded"):  # the data for the returns and the gradient are both sharded first
        setattr(Team, name, delayed(getattr(Team, name)))
    sys.argv = ["jaxpg.train", *argv]
    runpy.run_module("jaxpg.train", run_name="__main__")


def _travel(arguments: argparse.Namespace) -> None:
    print("| processes | a gather, ms | the sum of a gradient, ms | megabytes of it |\n|---|---|---|---|")
    for processes in arguments.processes:
        if processes == 1:
            continue
        address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, __file__, "--gradient-bytes", str(arguments.gradient_bytes)]
        started = [
            subprocess.Popen([*command, "--member", address, str(processes), str(i)], stdout=subprocess.PIPE, text=True)
            for i in range(processes)
        ]
        said = [process.communicate()[0] for process in started]
        gather, reduce = json.loads(said[0].splitlines()[-1])
        print(f"| {processes} | {gather * 1e3:.2f} | {reduce * 1e3:.1f} | {arguments.gradient_bytes / 1e6:.1f} |")


def _travel_as_member(arguments: argparse.Namespace) -> None:
    address, processes, process = arguments.member
    config = DistributedConfig(coordinator_address=address, num_processes=int(processes), process_id=int(process))
    with joined_team(config) as team:
        gather = _median_seconds(lambda: team.gather({"signal": None, "late": False}))
        gradient = np.zeros((1, arguments.gradient_bytes // 4), np.float32)

        def reduce() -> None:
            parts = [jax.device_put(gradient, device) for device in team.devices]
            jax.block_until_ready(team.reduce(_sum, parts))

        times = [gather, _median_seconds(reduce)]
        if team.leads:
            print(json.dumps(times), flush=True)


def _sum(x: jax.Array) -> jax.Array:
    return x.sum(0)


def _median_seconds(work: object, repeats: int = 100) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[repeats // 5 :])


def iteration_seconds(host: Host, network: Network, hosts: int) -> float:
    """Predicted seconds of one iteration: each host plays and learns, and all hosts exchange their data.

    A gather of few bytes takes ``log2(hosts)`` latencies. The sum of a gradient travels twice around a ring of hosts
    (Patarasuk and Yuan 2009, section 3).
    """
    seconds = host.seconds_per_agent_step * host.agent_steps
    if hosts == 1:
        return seconds
    gathers = GATHERS * network.latency_seconds * math.ceil(math.log2(hosts))
    gathered = BYTES_PER_AGENT_STEP * host.agent_steps * (hosts - 1) / network.bytes_per_second
    a_sum = 2 * (hosts - 1) * (network.latency_seconds + host.gradient_bytes / hosts / network.bytes_per_second)
    return seconds + gathers + gathered + host.updates * a_sum


def _model(arguments: argparse.Namespace) -> None:
    host = Host(arguments.microseconds * 1e-6, arguments.agent_steps, arguments.gradient_bytes, arguments.updates)
    network = Network(arguments.latency_ms * 1e-3, arguments.gbit * 1e9 / 8)
    print("| hosts | agent steps/s | efficiency | an iteration, ms |\n|---|---|---|---|")
    alone = iteration_seconds(host, network, 1)
    for hosts in (1, 8, 64, 512):
        seconds = iteration_seconds(host, network, hosts)
        speed = hosts * host.agent_steps / seconds
        print(f"| {hosts} | {speed:,.0f} | {alone / seconds:.2f} | {seconds * 1e3:.0f} |")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
