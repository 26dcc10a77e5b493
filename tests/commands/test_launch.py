"""The launcher, with real processes: small scripts stand for the training."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.launch import parse_launch
from jaxpg.machine.cores import core_shares
from jaxpg.parallel.children import Lines, exit_code

CHILD = """
import json, os, signal, sys, time

def index():
    return int(sys.argv[sys.argv.index("--distributed.process-id") + 1])

def say(word):  # print, unlike this, must not be called by a handler that comes while it runs
    os.write(1, f"{word}\\n".encode())

def noted(number, frame):
    say(signal.Signals(number).name)
    sys.exit(128 + number)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, noted)
"""
"""What every script begins with; ``noted`` stands for a training that saves and ends."""
LAUNCH = "import json, sys; from jaxpg.launch import main; main(sys.argv[2:], json.loads(sys.argv[1]))"
SECONDS = 20.0
"""Far more than anything here takes."""
WAIT = "time.sleep(60)"


def command(script: str, *argv: str) -> list[str]:
    """A launcher whose processes run the script."""
    child = json.dumps([sys.executable, "-I", "-S", "-c", CHILD + script])
    return [sys.executable, "-c", LAUNCH, child, *argv]


def launched(script: str, *argv: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """The launcher after its end."""
    line = command(script, "--processes", str(processes), *argv)
    return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)


@contextmanager
def running(*argv: str, processes: int = 2, first: str = "", then: str = WAIT):
    """A launcher all of whose processes have done what comes first, and their numbers in the system."""
    line = command(f"{first}\nsay(f'ready {{os.getpid()}}')\n{then}", "--processes", str(processes), *argv)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        ready: dict[int, int] = {}
        while len(ready) < processes:
            if found := re.fullmatch(r"\[(\d)\] ready (\d+)\n", launcher.stdout.readline()):
                ready[int(found[1])] = int(found[2])
        pids = [ready[index] for index in range(processes)]
        try:
            yield launcher, pids
        finally:
            for pid in (launcher.pid, *pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def ended(pid: int) -> bool:
    """Whether a process has ended; a zombie has, whose parent has not looked yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_the_launcher_does_not_import_jax():
    check = "import sys, jaxpg.launch; sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'tyro')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_process_gets_the_arguments_and_who_it_is():
    done = launched("print(json.dumps(sys.argv[1:]))", "--", "a.yaml", "--env.actions", "2", "3", "é x", processes=3)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(said) == {"[0]", "[1]", "[2]"}
    ports = set()
    for index in range(3):
        *given, address_flag, address, number_flag, number, id_flag, process_id = json.loads(said[f"[{index}]"])
        assert given == ["a.yaml", "--env.actions", "2", "3", "é x"]
        assert [address_flag, number_flag, id_flag] == [
            "--distributed.coordinator-address",
            "--distributed.num-processes",
            "--distributed.process-id",
        ]
        assert (number, process_id) == ("3", str(index))
        ports.add(int(address.removeprefix("127.0.0.1:")))
    assert len(ports) == 1
    assert 1024 <= ports.pop() < 65536


def test_every_process_gets_gpus_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "jax_plugins" / "xla_cuda13").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "xla_cuda13" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    told = launched("say(os.environ['CUDA_VISIBLE_DEVICES'])")
    assert sorted(told.stdout.splitlines()) == ["[0] 4,5", "[1] 6,7"]
    refused = launched("say('started')", processes=5)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "jaxpg: --processes: each process of a run needs a GPU of its own, and there are 4"
    )


@pytest.mark.parametrize(
    ("argv", "train"),
    [
        (["--processes", "2"], ()),
        (["--processes", "2", "--"], ()),
        (["--processes=2", "a.yaml", "--env.game", "Pong"], ("a.yaml", "--env.game", "Pong")),
        (["--timeout-seconds", "5", "--processes", "2", "--run.seed=3"], ("--run.seed=3",)),
        (["--processes", "2", "--", "--processes", "9", "--", "x"], ("--processes", "9", "--", "x")),
        (["--processes", "2", "--", "--distributed.timeout-seconds", "9"], ("--distributed.timeout-seconds", "9")),
        (["--processes", "2", "--resume", "runs/mine", "--help"], ("--resume", "runs/mine", "--help")),
    ],
)
def test_what_is_for_the_training_comes_after_the_launchers_flags(argv, train):
    arguments = parse_launch(argv)
    assert arguments.train == train
    assert arguments.processes == 2
    assert arguments.timeout_seconds == (5 if "--timeout-seconds" in argv else 60)


WRONG = [
    ([], "how many processes? give --processes K first"),
    (["configs/pong.yaml", "--processes", "2"], "how many processes? give --processes K first"),
    (["--processes", "0"], "--processes: input should be from 1 to 256, not 0"),
    (["--processes", "-1"], "--processes: input should be from 1 to 256, not -1"),
    (["--processes", "100000"], "--processes: input should be from 1 to 256, not 100000"),
    (["--processes", "two"], "--processes: invalid int value: 'two'"),
    (["--processes"], "--processes: expected one argument"),
    (
        ["--processes", "2", "--timeout-seconds", "nan"],
        "--timeout-seconds: input should be a number from 0 on, not nan",
    ),
    (["--processes", "2", "--timeout-seconds=-1"], "--timeout-seconds: input should be a number from 0 on, not -1"),
    (["--proceses", "2", "--"], "unknown flag --proceses before the --; did you mean '--processes'?"),
    (["--processes", "2", "a.yaml", "--"], "unexpected argument 'a.yaml' before the --; the recipe and its flags come"),
    (["--processes", "2", "--distributed.process_id=3"], "--distributed.process_id=3: the launcher gives this flag"),
    (["--processes", "2", "--", "--distributed.no-auto"], "--distributed.no-auto: the launcher gives this flag"),
]


@pytest.mark.parametrize(("argv", "sentence"), WRONG, ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else "")
def test_a_mistake_is_refused(argv, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_launch(argv)


def test_a_mistake_is_one_sentence_and_exit_code_2():
    done = launched("say('never')", processes=0)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jaxpg: --processes: input should be from 1 to 256, not 0\n"


def test_a_program_that_cannot_be_started_is_named_and_nothing_is_left():
    line = [sys.executable, "-c", LAUNCH, json.dumps(["no-such-program"]), "--processes", "2"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jaxpg: process 0 cannot be started: No such file or directory\n"


def test_help_says_what_it_does_with_cores(capsys):
    with pytest.raises(SystemExit) as end:
        parse_launch(["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--processes K" in shown
    assert "cores that this command may use are divided into contiguous shares" in shown


def test_every_line_has_its_process_in_front_and_the_last_one_may_be_unfinished():
    script = r"""
sys.stdout.write(f"one\n\ntwo {index()}\nhalf")
sys.stderr.write("10 %\r20 %\rworse\r\nlast words")
"""
    done = launched(script)
    assert done.returncode == 0
    for index in (0, 1):
        said = [line for line in done.stdout.splitlines() if line.startswith(f"[{index}]")]
        assert said == [f"[{index}] {text}" for text in ("one", "", f"two {index}", "half")]
        said = [line for line in done.stderr.splitlines() if line.startswith(f"[{index}]")]
        assert said == [f"[{index}] {text}" for text in ("10 %", "20 %", "worse", "last words")]
    assert done.stdout.endswith("half\n")


def test_long_lines_of_many_processes_stay_whole():
    script = "for i in range(20): print(str(index()) * 100_000)\nsys.stdout.write('x' * 300_000)"
    done = launched(script, processes=4)
    expected = [f"[{i}] " + str(i) * 100_000 for i in range(4) for _ in range(20)]
    assert sorted(done.stdout.splitlines()) == sorted(expected + [f"[{i}] " + "x" * 300_000 for i in range(4)])


def test_lines_come_at_once_though_the_process_goes_on():
    with running():  # which waits for both to have said that they are ready
        pass


def test_a_line_end_of_two_bytes_may_come_in_two_parts():
    reader, writer = os.pipe()
    lines = Lines(os.fdopen(reader, "rb", buffering=0))
    found = []
    for part in (b"a\r", b"\nb", b"\n", b"\xff"):
        os.write(writer, part)
        found.append(lines.read())
    os.close(writer)
    assert found == [[], [b"a"], [b"b"], []]
    assert lines.read() is None
    assert lines.close() == [b"\xff"]


def test_a_stream_that_somebody_else_holds_does_not_hold_the_launcher_up():
    script = f"""
import subprocess
if index() == 0:
    other = subprocess.Popen([sys.executable, "-c", "import time; {WAIT}"])
    print(other.pid)
"""
    began = time.monotonic()
    done = launched(script)
    os.kill(int(done.stdout.split()[1]), signal.SIGKILL)
    assert done.returncode == 0
    assert time.monotonic() - began < SECONDS / 2


@pytest.mark.parametrize(("codes", "expected"), [([0, 0], 0), ([3, 0], 3), ([0, 3], 3), ([2, 2], 2)], ids=str)
def test_the_exit_code_is_the_failures(codes, expected):
    done = launched(f"sys.exit({codes}[index()])")
    assert done.returncode == expected
    assert done.stderr.count("jaxpg: process") == len({code for code in codes if code})  # alike: once


def test_the_first_failure_counts_and_is_named():
    script = "if index() == 1: sys.exit(7)\ntime.sleep(0.5)\nsys.exit(1)"
    done = launched(script, processes=3)
    assert done.returncode == 7
    first, then = done.stderr.splitlines()
    assert first == "jaxpg: process 1 ended with exit code 7; the others end by themselves"
    assert re.fullmatch(r"jaxpg: process [02] ended with exit code 1", then)


def test_the_exit_code_of_several():
    sigterm = [signal.SIGTERM]
    assert exit_code([0, 137, 1], []) == 137
    assert exit_code([143, 143], sigterm) == 143
    assert exit_code([143, 137], sigterm) == 137, "one was killed, and so did not save"
    assert exit_code([143, 130], [signal.SIGTERM, signal.SIGINT]) == 143


def test_a_killed_process_is_named():
    with running("--timeout-seconds", "0.2", processes=3) as (launcher, pids):
        os.kill(pids[2], signal.SIGKILL)
        out, err = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 137
    assert err.splitlines() == [
        "jaxpg: process 2 ended by SIGKILL; the others end by themselves",
        "jaxpg: process 0, 1 still running after 0.2 s; SIGTERM is sent",
    ]
    assert sorted(out.splitlines()) == ["[0] SIGTERM", "[1] SIGTERM"]


def test_a_process_that_does_not_end_is_killed_at_last():
    first = "if index() == 1: signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    then = f"if index() == 0: sys.exit(5)\n{WAIT}"
    began = time.monotonic()
    with running("--timeout-seconds", "0.3", first=first, then=then) as (launcher, pids):
        _, err = launcher.communicate(timeout=SECONDS)
        assert all(ended(pid) for pid in pids)
    assert launcher.returncode == 5
    assert 0.6 <= time.monotonic() - began < SECONDS / 2
    assert err.splitlines() == [
        "jaxpg: process 0 ended with exit code 5; the others end by themselves",
        "jaxpg: process 1 still running after 0.3 s; SIGTERM is sent",
        "jaxpg: process 1 still running after 0.6 s; SIGKILL is sent",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_every_process_once(number):
    with running(processes=3) as (launcher, _):
        launcher.send_signal(number)
        out, err = launcher.communicate(timeout=SECONDS)
    assert sorted(out.splitlines()) == [f"[{i}] {number.name}" for i in range(3)]
    assert (launcher.returncode, err) == (128 + number, "")


def test_a_second_signal_is_forwarded_too():
    first = """
def once(number, frame):
    signal.signal(number, noted)
    say("once")

signal.signal(signal.SIGINT, once)
"""
    with running(first=first) as (launcher, _):
        launcher.send_signal(signal.SIGINT)
        assert sorted(launcher.stdout.readline() for _ in range(2)) == ["[0] once\n", "[1] once\n"]
        launcher.send_signal(signal.SIGINT)
        out, _ = launcher.communicate(timeout=SECONDS)
    assert sorted(out.splitlines()) == ["[0] SIGINT", "[1] SIGINT"]
    assert launcher.returncode == 130


def test_ctrl_c_in_a_terminal_reaches_every_process_once():
    """A terminal sends it to the whole group of processes in the foreground; theirs are others."""
    with running() as (launcher, pids):
        assert len({os.getpgid(pid) for pid in (launcher.pid, *pids)}) == 3


def test_one_that_dies_of_a_forwarded_signal_and_one_that_saves_are_alike():
    with running(first="if index() == 0: signal.signal(signal.SIGTERM, signal.SIG_DFL)") as (launcher, _):
        launcher.send_signal(signal.SIGTERM)
        out, err = launcher.communicate(timeout=SECONDS)
    assert (launcher.returncode, out, err) == (143, "[1] SIGTERM\n", "")


def test_a_killed_launcher_leaves_nobody_behind(tmp_path):
    first = """
def alone(number, frame):
    open(sys.argv[1] + str(index()), "w").close()
    sys.exit()

signal.signal(signal.SIGTERM, alone)
"""
    with running("--", str(tmp_path / "saved"), first=first) as (launcher, pids):
        launcher.kill()
        launcher.wait()
        limit = time.monotonic() + SECONDS
        while not all(ended(pid) for pid in pids) and time.monotonic() < limit:
            time.sleep(0.02)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved0", "saved1"]


def test_where_nobody_reads_any_more_the_run_is_saved_and_ends():
    with running(then="while True: time.sleep(0.05) or say('more')") as (launcher, _):
        launcher.stdout.close()
        assert launcher.wait(SECONDS) == 143
        assert launcher.stderr.read() == ""


def test_a_full_disk_costs_the_words_only():
    with open("/dev/full", "wb") as full:
        line = command("for _ in range(3): say('lost')\nprint('kept', file=sys.stderr)", "--processes", "2")
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == ["[0] kept", "[1] kept"]


@pytest.mark.parametrize("processes", range(1, 12))
@pytest.mark.parametrize("cores", [[0], [3, 5], list(range(8)), [0, 2, 4, 6, 7, 9, 11]], ids=str)
def test_shares_are_contiguous_whole_and_even(cores, processes):
    shares = core_shares(cores, processes)
    assert len(shares) == processes
    if len(cores) < processes:
        assert shares == [cores] * processes
    else:
        assert [core for share in shares for core in share] == cores
        sizes = {len(share) for share in shares}
        assert max(sizes) - min(sizes) <= 1


def test_processes_run_on_their_share_of_the_cores():
    """Of those that the launcher may use; with more processes than cores each may use all."""
    mine = sorted(os.sched_getaffinity(0))
    for processes in {1, min(len(mine), 4), len(mine) + 1}:
        done = launched("print(sorted(os.sched_getaffinity(0)))", processes=processes)
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        found = [json.loads(said[f"[{index}]"]) for index in range(processes)]
        assert found == core_shares(mine, processes)
