"""What the scaling benchmark makes of its measurements, and the rollouts that it compares."""

from pathlib import Path

import pytest
from growth import draw, fits, growth_exponent, straight_line, table
from scaling import rollout_shape


def _row(series: str, size: int, step_milliseconds: float, peak_megabytes: float) -> dict:
    row = {"series": series, "size": size, "num_lanes": size, "rollout_agent_steps": 16}
    speeds = ("agent_steps_per_second", "lowest_agent_steps_per_second", "highest_agent_steps_per_second")
    row |= dict.fromkeys(speeds, 1e3 * size / step_milliseconds)
    row |= {f"{phase}_microseconds": 1.0 for phase in ("emulate", "act", "learn", "other")}
    memory = {"peak_megabytes": peak_megabytes, "device_peak_megabytes": 0.0}
    return {**row, "step_milliseconds": step_milliseconds, **memory}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.3])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    sizes = [8.0, 16.0, 64.0, 1024.0]
    assert growth_exponent(sizes, [3 * size**exponent for size in sizes]) == pytest.approx(exponent, abs=1e-12)


def test_the_exponent_is_the_slope_of_least_squares_in_logarithms() -> None:
    # log2: x = 0, 1, 2 and y = 0, 0, 3; the slope is (1 * 0 + 0 * 0 + 1 * 3 - 1 * 0) / 2
    assert growth_exponent([1, 2, 4], [1, 1, 8]) == pytest.approx(1.5)


def test_a_straight_line_is_that_of_least_squares() -> None:
    assert straight_line([8, 16, 1024], [404, 408, 912]) == pytest.approx((400, 0.5))
    assert straight_line([0, 1, 2], [0, 0, 3]) == pytest.approx((-0.5, 1.5))


def test_the_fits_are_over_lanes_alone_and_need_two_of_them() -> None:
    lanes = [_row("lanes", 8, 2.0, 404), _row("lanes", 16, 4.0, 408)]
    members = [_row("members", 4, 99.0, 5000), _row("members", 8, 1.0, 9)]
    found = fits([*lanes, *members])
    expected = {"step_time_exponent": 1, "peak_megabytes_without_lanes": 400, "peak_megabytes_per_lane": 0.5}
    assert found == pytest.approx(expected)
    assert fits([*lanes[:1], *members]) == {}


def test_the_table_tells_each_series_memory_for_each_further_one() -> None:
    rows = [_row("lanes", 8, 2.0, 404), _row("lanes", 16, 4.0, 408), _row("members", 4, 1.0, 7)]
    text = table("Pong, cpu.", rows)
    assert "grows as lanes^1.00, peak memory of the process as 400 MB + 0.50 MB a lane" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[-1] for line in lines if line[2].isdigit()] == ["- |", "0.50 |", "- |"]
    assert "of the device" not in text, "a CPU has no memory of its own"


@pytest.mark.parametrize("minibatch", [0, 32, 64, 512])
@pytest.mark.parametrize("num_lanes", [1, 7, 8, 32, 48, 128, 1024])
def test_a_batch_in_other_lanes_stays_near_its_size_and_valid(num_lanes: int, minibatch: int) -> None:
    rows, agent_steps = rollout_shape(num_lanes, 512, minibatch)
    assert rows >= 4
    assert rows == 4 or 512 - num_lanes < rows * num_lanes <= 512
    if minibatch == 0:
        assert agent_steps == 0
    else:
        assert agent_steps % num_lanes == 0
        assert rows * num_lanes % agent_steps == 0
        assert agent_steps >= min(minibatch, rows * num_lanes)


def test_the_chart_shows_any_of_the_series(tmp_path: Path) -> None:
    draw([_row("members", 4, 1.0, 7), _row("threads", 1, 1.0, 7)], "Pong, cpu", tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
