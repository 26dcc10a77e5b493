"""The figures of an accelerator: what is measured, that time is kept, and that a failure costs one section."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import accelerator
import pytest
from accelerator import Asked, measured, run_section, table
from throughput import NETWORKS

ASKED = Asked("Pong", ["linear", "Nature CNN"], [4, 8], [1, 2], Path())


class Fake:
    """A contestant that plays as many agent steps in a turn as its arguments say."""

    def __init__(self, kind, argv, variables):
        self.speeds = [float(word) for word in argv]
        self.closed = False
        made.append(self)

    def turn(self, seconds):
        return {"agent_steps": self.speeds.pop(0) * seconds, "seconds": seconds}

    def close(self):
        assert not self.speeds
        self.closed = True


made: list[Fake] = []


def test_speeds_are_medians_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "Contestant", Fake)
    sides = {name: ("training", words, {}) for name, words in {"a": ["1", "30", "2"], "b": ["5", "5", "4"]}.items()}
    assert measured(sides, 0.0) == {"a": 2.0, "b": 5.0}
    assert len(made) == 2
    assert all(contestant.closed for contestant in made)


def test_each_network_stands_beside_envpool_with_its_own_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def speeds(sides, seconds):
        asked.append((sides, seconds))
        return {name: 100.0 if kind == "training" else 400.0 for name, (kind, _, _) in sides.items()}

    monkeypatch.setattr(accelerator, "measured", speeds)
    rows = list(accelerator.throughput(ASKED, 60.0))
    assert [(row["network"], row["lanes"], row["ratio"]) for row in rows] == [
        (name, lanes, 0.25) for lanes in (4, 8) for name in ASKED.networks
    ]
    assert [seconds for _, seconds in asked] == pytest.approx([60 / (1 + 2**0.5), 60 / (1 + 0.5**0.5)])
    for sides, _ in asked:
        assert set(sides) == {*ASKED.networks, *(NETWORKS[name][0] for name in ASKED.networks)}
    kinds = [row["products"] for row in accelerator.precision(ASKED, 60.0) if row["network"] == "linear"]
    assert kinds == ["float32", "TF32", "bfloat16"]
    by_kind = {kept: (flags, variables) for (_, kept), (_, flags, variables) in asked[-1][0].items()}
    assert by_kind["TF32"][1] == {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}
    assert by_kind["bfloat16"][0][-2:] == ["--policy.precision", "bfloat16"]
    pools = [(row["network"], row["pools"], row["lanes"]) for row in accelerator.overlap(ASKED, 60.0)]
    assert pools == [(name, number, 8) for name in ASKED.networks for number in (1, 2)]
    members = [(row["members"], row["game"]) for row in accelerator.jax_environments(ASKED, 60.0)]
    assert members == [(number, game) for number in (1, 2) for game in accelerator.GAMES]


SCRIPT = """
import json, pathlib, sys, time
name = sys.argv[sys.argv.index("--section") + 1]
pathlib.Path(sys.argv[1], f"{name}.json").write_text(json.dumps([{"a": 1}]))
print("words", flush=True)
"""


@pytest.mark.parametrize(
    ("then", "failure"),
    [
        ("", None),
        ("sys.exit('no such device')", "exit code 1: no such device"),
        ("time.sleep(60)", "not ready after 9 s"),
    ],
)
def test_a_section_keeps_its_rows_however_it_ends(monkeypatch, tmp_path: Path, then: str, failure: str | None) -> None:
    (tmp_path / "script.py").write_text(SCRIPT + then)
    monkeypatch.setattr(accelerator, "__file__", str(tmp_path / "script.py"))
    waits = subprocess.Popen.wait

    def wait(process, timeout=None):
        """Time is over as soon as the script sleeps."""
        while timeout and "sleep" in then:
            time.sleep(0.02)
            if (tmp_path / "overlap.log").read_text():
                raise subprocess.TimeoutExpired("script", timeout)
        return waits(process)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    section = run_section("overlap", [str(tmp_path)], 9.0, tmp_path)
    assert (section["rows"], section["failure"]) == ([{"a": 1}], failure)
    assert (tmp_path / "overlap.log").read_text().startswith("words")


def test_a_failed_section_is_told_and_the_others_share_its_time(monkeypatch, tmp_path: Path) -> None:
    given = {}

    def run(name, argv, seconds, folder):
        given[name] = seconds
        rows = [] if name == "device" else [{"network": "linear", "agent steps/s": 1234.5, "reached": True}]
        return {"rows": rows, "seconds": 0.0, "failure": "exit code 1: gone" if name == "device" else None}

    monkeypatch.setattr(accelerator, "run_section", run)
    chosen = ["device", "overlap", "resume"]
    monkeypatch.setattr(
        sys, "argv", ["accelerator.py", "--minutes", "1", "--out", str(tmp_path), "--sections", *chosen]
    )
    with pytest.raises(SystemExit) as ended:
        accelerator.main()
    assert ended.value.code == 1
    percents = {name: accelerator.SECTIONS[name].percent for name in chosen}
    first, second, third = percents.values()
    shares = [60 * first / (first + second + third), 60 * second / (second + third), 60]
    assert list(given.values()) == pytest.approx(shares, rel=0.1), "the fakes take no time, so the last one has all"
    written = json.loads((tmp_path / "accelerator.json").read_text())
    assert [section["failure"] for section in written["sections"].values()] == ["exit code 1: gone", None, None]
    text = (tmp_path / "accelerator.md").read_text()
    assert "Failed: exit code 1: gone" in text
    assert text.count("| linear | 1,234 | yes |") == 2


def test_shares_are_a_whole() -> None:
    assert sum(section.percent for section in accelerator.SECTIONS.values()) == 100


def test_a_table_has_a_line_for_each_row() -> None:
    rows = [
        {"on": "cpu", "mean": 0.1234, "games": 1000, "same": False},
        {"on": "x", "mean": None, "games": 1, "same": True},
    ]
    assert table(rows).splitlines() == [
        "| on | mean | games | same |",
        "|---|---|---|---|",
        "| cpu | 0.123 | 1,000 | no |",
        "| x | - | 1 | yes |",
    ]
    assert table([]) == ""


SHORTER = f"""
import sys
sys.path.insert(0, {str(Path(accelerator.__file__).parent)!r})
import accelerator
accelerator.__file__ = __file__  # which the sections run, too
accelerator.LONGEST_TURN_SECONDS, accelerator.GAMES_PLAYED = accelerator.SHORTEST_TURN_SECONDS, 2
accelerator.main()
"""


@pytest.mark.long
def test_sections_run_on_a_processor(tmp_path: Path) -> None:
    """The others take as long as they may, or measure in the same way. So much time is the most, and little is used."""
    script = tmp_path / "shorter.py"
    script.write_text(SHORTER)
    chosen = ["device", "overlap", "cpu_evaluation"]
    small = ["--minutes", "60", "--networks", "linear", "--lanes", "4", "--sections", *chosen]
    command = [sys.executable, str(script), *small, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sections = json.loads((tmp_path / "accelerator.json").read_text())["sections"]
    assert {name: section["failure"] for name, section in sections.items()} == dict.fromkeys(chosen)
    assert done.returncode == 0
    games = sections["cpu_evaluation"]["rows"]
    assert games[0]["mean"] == games[1]["mean"], "both are the processor here"
    assert re.search(r"\| linear \| 4 \| 1 \| [\d,]+ \|", (tmp_path / "accelerator.md").read_text())
