"""The files of docs/cluster, run with stand-ins for the cluster's programs."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from jaxpg.launch import OWN, parse_launch

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "docs" / "cluster"
STAND_IN = """#!/bin/sh
printf '%s\\n' "$(basename "$0")" "$@" >> "$SAID"
exit "${CODE:-0}"
"""
"""Notes its name and its arguments, a line each."""


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A folder to work in whose programs only note how they were called; gives a function that reads this."""
    for name in ("srun", "scontrol", "python"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN)
        program.chmod(0o755)
    said = tmp_path / "said"
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(said))
    monkeypatch.chdir(tmp_path)

    def read() -> list[str]:
        words = said.read_text().splitlines()
        said.unlink()
        return words

    return read


def slurm(*argv: str, code: int = 0, **variables: str) -> int:
    environment = {**os.environ, "SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "16", "CODE": str(code), **variables}
    return subprocess.run([CLUSTER / "slurm.sh", *argv], env=environment, check=False).returncode


def a_run(folder: str) -> None:
    Path(folder).mkdir(parents=True)
    (Path(folder) / "config.yaml").touch()


@pytest.fixture(scope="module")
def jobset() -> dict:
    documents = list(YAML(typ="safe").load_all((CLUSTER / "jobset.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["PersistentVolumeClaim", "JobSet"]
    claim, found = documents
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volume = pod(found)["volumes"][0]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    return found


def job(jobset: dict) -> dict:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    return replicated["template"]["spec"]


def pod(jobset: dict) -> dict:
    return job(jobset)["template"]["spec"]


def container(jobset: dict) -> dict:
    (only,) = pod(jobset)["containers"]
    return only


def test_slurm_starts_a_run_with_the_recipe_and_its_flags(stand_ins):
    assert slurm("configs/pong.yaml", "--run.seed", "3") == 0
    program, *flags, python, m, module, recipe, seed, three, run_dir, folder, auto = stand_ins()
    assert (program, flags) == ("srun", ["--kill-on-bad-exit=0", "--cpus-per-task=16"])
    assert (python, m, module) == (".venv/bin/python", "-m", "jaxpg.train")
    assert (recipe, seed, three) == ("configs/pong.yaml", "--run.seed", "3")
    assert (run_dir, folder, auto) == ("--run.dir", "runs/slurm-77", "--distributed.auto")


def test_slurm_goes_on_with_a_run_that_is_there(stand_ins):
    a_run("runs/slurm-77")
    a_run("runs/my own")
    assert slurm("configs/pong.yaml") == 0
    assert stand_ins()[-3:] == ["--resume", "runs/slurm-77", "--distributed.auto"]
    assert slurm("configs/pong.yaml", JAXPG_RUN_DIR="runs/my own", PYTHON="python") == 0
    assert stand_ins()[3:] == ["python", "-m", "jaxpg.train", "--resume", "runs/my own", "--distributed.auto"]


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (2, False), (137, False), (143, True)])
def test_slurm_queues_a_run_again_that_was_saved(code, again, stand_ins):
    assert slurm(code=code) == code
    assert (stand_ins()[-3:] == ["scontrol", "requeue", "77"]) == again


def test_slurm_is_asked_for_one_task_a_node_and_a_signal_in_time():
    script = (CLUSTER / "slurm.sh").read_text()
    options = re.findall(r"^#SBATCH (\S+)", script, re.MULTILINE)
    assert {"--ntasks-per-node=1", "--signal=TERM@120", "--requeue", "--open-mode=append"} <= set(options)


def test_the_pods_agree_on_how_many_they_are_and_who_is_first(jobset):
    text = " ".join(container(jobset)["command"][-1].split())
    assert job(jobset)["completionMode"] == "Indexed"
    assert job(jobset)["completions"] == job(jobset)["parallelism"]
    assert f"--distributed.num-processes {job(jobset)['completions']} " in text
    name, replicated = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"][0]["name"]
    (port,) = container(jobset)["ports"]
    assert f"--distributed.coordinator-address {name}-{replicated}-0-0.{name}:{port['containerPort']} " in text


def test_a_pod_starts_a_run_or_goes_on_with_it(jobset, stand_ins):
    only = container(jobset)
    (variable,) = only["env"]
    environment = {**os.environ, variable["name"]: variable["value"], "JOB_COMPLETION_INDEX": "3"}
    recipe = ["configs/atari.yaml", "--env.game", "Breakout"]
    assert (ROOT / recipe[0]).is_file()
    for expected in ([*recipe, "--run.dir", variable["value"]], ["--resume", variable["value"]]):
        subprocess.run(only["command"], env=environment, check=True)
        program, m, module, *arguments = stand_ins()
        assert (program, m, module) == ("python", "-m", "jaxpg.train")
        assert arguments[: len(expected)] == expected
        assert arguments[-2:] == ["--distributed.process-id", "3"]
        if "--resume" not in expected:
            a_run(variable["value"])


def test_the_pod_is_the_images_user_and_writes_where_that_one_may(jobset):
    dockerfile = (ROOT / "Dockerfile").read_text()
    rights = pod(jobset)["securityContext"]
    assert rights["runAsNonRoot"] is True
    assert f"USER {rights['runAsUser']}:{rights['runAsGroup']}" in dockerfile
    assert rights["fsGroup"] == rights["runAsGroup"]
    (mount,) = container(jobset)["volumeMounts"]
    workdir = re.search(r"^WORKDIR (/jaxpg)$", dockerfile, re.MULTILINE)[1]
    assert mount["mountPath"] == f"{workdir}/runs"
    assert container(jobset)["env"][0]["value"].startswith("runs/")


def test_only_a_users_mistake_ends_the_jobset(jobset):
    (rule,) = job(jobset)["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["operator"], rule["onExitCodes"]["values"]) == ("FailJob", "In", [2])
    assert rule["onExitCodes"]["containerName"] == container(jobset)["name"]
    (answer,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (answer["action"], answer["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert job(jobset)["backoffLimit"] == 0
    assert pod(jobset)["restartPolicy"] == "Never"


def test_what_the_page_says_of_the_launcher_holds():
    page = (ROOT / "docs" / "guides" / "processes.md").read_text(encoding="utf-8")
    lines = re.findall(r"^jaxpg launch (.*)$", page, re.MULTILINE)
    assert lines
    for line in lines:
        arguments = parse_launch(line.split("#")[0].split())
        assert all((ROOT / word).is_file() for word in arguments.train if word.endswith(".yaml"))
    for flag in re.findall(r"`(--[a-z-]+)[ `]", page.split("## Several nodes")[0]):
        assert flag in (*OWN, "--resume"), flag
    for path in re.findall(r"\]\(([\w/.-]+)\)", page):
        assert (ROOT / "docs" / "guides" / path).exists(), path
