"""The guard against slower training: what it lets pass and what it names."""

import platform

import pytest
from guard import Recorded, compare, processor

RECORDED = {"linear": Recorded(ratio=0.80, lowest=0.75), "MLP": Recorded(ratio=0.70, lowest=0.68)}


def test_a_ratio_may_fall_by_twice_the_noise_and_no_further() -> None:
    lines, fell = compare({"linear": 0.701, "MLP": 0.661}, RECORDED)
    assert fell == []
    assert lines[0] == "linear: 0.701, recorded 0.800, least 0.700: as before"
    lines, fell = compare({"linear": 0.95, "MLP": 0.659}, RECORDED)
    assert fell == ["MLP"]
    assert lines[1].endswith("FELL")


def test_what_is_recorded_is_the_median_and_the_lowest() -> None:
    recorded = Recorded.of([0.84, 0.80, 0.86])
    assert recorded == (0.84, 0.80)
    assert recorded.least_allowed == pytest.approx(0.76)


def test_generations_of_one_name_are_told_apart() -> None:
    core = "processor\t: 0\ncpu family\t: {}\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n"
    older, newer = core.format(25), core.format(26)
    assert processor(newer) == "AMD EPYC, cpu family 26, model 1"
    assert processor(older) != processor(newer)
    assert processor("processor\t: 0\nFeatures\t: fp asimd\n") == platform.machine()  # ARM names no model
    assert processor("") == platform.machine()  # and other systems have no such file
