"""The guard against slower training: what it lets pass and what it names."""

from guard import Recorded, compare

RECORDED = {"linear": Recorded(ratio=0.80, lowest=0.75), "MLP": Recorded(ratio=0.70, lowest=0.68)}


def test_a_ratio_may_fall_by_twice_the_noise_and_no_further() -> None:
    lines, fell = compare({"linear": 0.701, "MLP": 0.661}, RECORDED)
    assert fell == []
    assert lines[0] == "linear: 0.701, recorded 0.800, least 0.700: as before"
    lines, fell = compare({"linear": 0.95, "MLP": 0.659}, RECORDED)
    assert fell == ["MLP"]
    assert lines[1].endswith("FELL")
