"""Whatever a recipe holds, a run is ready to start or the recipe is refused in one sentence; nothing is left behind."""

import subprocess
import sys

import hypothesis
import pytest

from tests.faults import recipes
from tests.faults.odd_recipes import recipes as odd_recipes
from tests.faults.recipes import BrokenError, fuzz, start, start_by_main

NASTIEST = {
    "code": b"env:\n  game: !!python/object/apply:os.system ['touch pwned']\n",
    "lanes": b"env: {num_lanes: 1000000000000}\n",
    "games": b"run: {learner: random_search}\n"
    b"random_search: {candidates: 10000000, episodes_per_candidate: 2147483647}\n",
}


@hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],  # shrinking would take minutes, and the recipe is in the message anyhow
)
@hypothesis.given(content=odd_recipes())
def test_a_recipe_is_accepted_or_refused_in_one_sentence(content, tmp_path_factory):
    start(content, tmp_path_factory.mktemp("recipe"))


def test_the_long_form_counts_every_recipe():
    counts = fuzz(examples=10, seed=3)
    assert counts.get("accepted", 0) + counts.get("refused", 0) == 10
    assert set(counts) <= {"accepted", "refused", "seconds", "slowest_seconds"}


@pytest.mark.parametrize(
    ("start_of_run", "complaint"),
    [
        (lambda path, run: run.mkdir(), "left {'run'}"),
        (lambda path, run: 1 / 0, "ZeroDivisionError"),
        (lambda path, run: "one\ntwo", "no sentence"),
        (lambda path, run: "", "no sentence"),
        (lambda path, run: print("oh", file=sys.stderr), "said 'oh"),
    ],
)
def test_the_fuzzer_notices_what_must_not_be(start_of_run, complaint, monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "_start", start_of_run)
    with pytest.raises(BrokenError, match=complaint):
        start(b"env: {}", tmp_path)


@pytest.mark.parametrize("content", NASTIEST.values(), ids=NASTIEST.keys())
def test_the_command_refuses_the_nastiest(content, tmp_path):
    code, said = start_by_main(content, tmp_path)
    assert code == 2
    assert said.startswith("jaxpg: ")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_process_refuses_the_nastiest(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(NASTIEST["code"])
    done = subprocess.run(
        [sys.executable, "-m", "jaxpg.train", "recipe.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jaxpg: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
