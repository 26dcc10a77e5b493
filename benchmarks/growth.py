"""Summarizes the rows of ``scaling.py``: exponents and straight lines that fit them, a table and a chart."""

from pathlib import Path
from typing import Any

import numpy as np
from turns import PHASES

MEMORIES = {"peak_megabytes": "peak memory of the process", "device_peak_megabytes": "of the device"}

Row = dict[str, Any]
"""One measured point: its ``series``, ``size`` and ``num_lanes``, and the medians of the measurements."""


def growth_exponent(sizes: list[float], costs: list[float]) -> float:
    """The exponent ``k`` of ``cost = c size^k``, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def straight_line(sizes: list[float], costs: list[float]) -> tuple[float, float]:
    """The ``a`` and ``b`` of ``cost = a + b size``, by least squares."""
    b, a = np.polyfit(sizes, costs, 1)
    return float(a), float(b)


def fits(rows: list[Row]) -> dict[str, float]:
    """How the time of one step of all lanes and the memory grow with the number of lanes.

    Empty if the rows have fewer than two different numbers of lanes.
    """
    by_lanes = [row for row in rows if row["series"] == "lanes"]
    sizes = [row["num_lanes"] for row in by_lanes]
    if len(set(sizes)) < 2:
        return {}
    found = {"step_time_exponent": growth_exponent(sizes, [row["step_milliseconds"] for row in by_lanes])}
    for memory in _memories(rows):
        a, b = straight_line(sizes, [row[memory] for row in by_lanes])
        found |= {f"{memory}_without_lanes": a, f"{memory}_per_lane": b}
    return found


def sentence(found: dict[str, float]) -> str:
    """The fits as one sentence."""
    said = [f"The time of one step of all lanes grows as lanes^{found['step_time_exponent']:.2f}"]
    for memory, name in MEMORIES.items():
        if f"{memory}_per_lane" in found:
            a, b = found[f"{memory}_without_lanes"], found[f"{memory}_per_lane"]
            said.append(f"{name} as {a:,.0f} MB + {b:.2f} MB a lane")
    return ", ".join(said) + " (least squares)."


def table(heading: str, rows: list[Row]) -> str:
    """One table of rows for each series.

    The memory per further lane, member or thread is the difference from the row above, divided by the added number.
    """
    memories, found = _memories(rows), fits(rows)
    lines = [heading, *(["", sentence(found)] if found else [])]
    for series in _series(rows):
        names = ["agent steps/s (lowest to highest)", "step of all lanes, ms", *(f"{phase}, us" for phase in PHASES)]
        names = [*dict.fromkeys((series, "lanes")), "T", *names]
        for memory in memories:
            names += [f"{MEMORIES[memory]}, MB", f"MB a further {series.removesuffix('s')}"]
        lines += ["", f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
        before: Row | None = None
        for row in _of(series, rows):
            whole = {series: row["size"], "lanes": row["num_lanes"], "T": row["rollout_agent_steps"]}
            numbers = [*map(str, whole.values()), *_cells(row)]
            for memory in memories:
                further = (row[memory] - before[memory]) / (row["size"] - before["size"]) if before else None
                numbers += [f"{row[memory]:,.0f}", "-" if further is None else f"{further:.2f}"]
            lines.append(f"| {' | '.join(numbers)} |")
            before = row
    return "\n".join(lines)


def draw(rows: list[Row], title: str, path: Path) -> None:
    """Draws, for each series, the time of one step of all lanes and the memory."""
    from matplotlib.figure import Figure

    names, memories = _series(rows), _memories(rows)
    figure = Figure(figsize=(9, 2.8 * len(names) + 0.5), layout="constrained")
    for (left, right), series in zip(figure.subplots(len(names), 2, squeeze=False), names, strict=True):
        points = _of(series, rows)
        sizes = [row["size"] for row in points]
        steps = [row["step_milliseconds"] for row in points]
        left.plot(sizes, steps, "o-", label="measured")
        if series == "lanes":
            left.plot(sizes, [steps[-1] * size / sizes[-1] for size in sizes], "--", color="gray", label="proportional")
            left.set_yscale("log")
        else:
            left.set_ylim(0, 1.1 * max(steps))
        left.set_ylabel("ms, one step of all lanes")
        for memory in memories:
            right.plot(sizes, [row[memory] for row in points], "o-", label=MEMORIES[memory])
        right.set_ylim(0, 1.1 * max(row[memory] for row in points for memory in memories))
        right.set_ylabel("MB")
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.set_xlabel(series)
            axes.legend()
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=120)


def _cells(row: Row) -> list[str]:
    speed = (
        f"{row['agent_steps_per_second']:,.0f} ({row['lowest_agent_steps_per_second']:,.0f} to "
        f"{row['highest_agent_steps_per_second']:,.0f})"
    )
    return [speed, f"{row['step_milliseconds']:.2f}", *(f"{row[f'{phase}_microseconds']:.0f}" for phase in PHASES)]


def _memories(rows: list[Row]) -> list[str]:
    """The kinds of memory that were measured. A CPU has only the memory of the process."""
    return [memory for memory in MEMORIES if any(row[memory] for row in rows)]


def _series(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["series"] for row in rows))


def _of(series: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["series"] == series]
