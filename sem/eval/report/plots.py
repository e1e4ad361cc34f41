"""Figures as numbers for report.html: where a mark stands in its track, in percent of its width.

Plain HTML and CSS draw them, so that text keeps its size on a phone; the step plot is SVG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A difference in points with its 95 % interval."""

    label: str
    points: float
    low: float
    high: float
    pairs: int
    # Whether the run is also shown to be better than what needs no training.
    beats: bool = True


@dataclass(frozen=True)
class Dumbbell:
    """Two percentages of one thing."""

    label: str
    before: float
    after: float
    rows: int


def build_forest_plot(rows: Sequence[Interval]) -> dict[str, Any]:
    """Tracks from -100 to 100 points, or as far as the intervals go; the zero line's place."""
    reach = max([10.0, *(abs(end) for row in rows for end in (row.low, row.high))])
    reach = min(100.0, reach * 1.05)

    def place(value: float) -> float:
        return round((max(-reach, min(reach, value)) + reach) / (2 * reach) * 100, 2)

    return {
        "reach": round(reach),
        "rows": [
            {
                "row": row,
                "left": place(row.low),
                "width": round(place(row.high) - place(row.low), 2),
                "at": place(row.points),
                "shown": "loss"
                if row.high < 0
                else "gain"
                if row.low > 0 and row.beats
                else "open",
            }
            for row in rows
        ],
    }


def build_dumbbell_plot(rows: Sequence[Dumbbell]) -> list[dict[str, Any]]:
    """Tracks from 0 to 100 %."""
    return [
        {
            "row": row,
            "left": round(min(row.before, row.after), 2),
            "width": round(abs(row.after - row.before), 2),
            "shown": "gain"
            if row.after > row.before
            else "loss"
            if row.after < row.before
            else "open",
        }
        for row in rows
    ]


def cumulative_steps(series: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return shares of values up to x as SVG paths in a box of 600 x 200, one a series."""
    most = max([1.0, *(value for values in series.values() for value in values)])
    return {"most": most, "paths": {name: _path(values, most) for name, values in series.items()}}


def _path(values: Sequence[float], most: float) -> str:
    ordered = sorted(values)
    if not ordered:
        return ""
    points, height = ["M0 200"], 200.0
    for number, value in enumerate(ordered, 1):
        x, below = value / most * 600, height
        height = 200 - number / len(ordered) * 200
        points.append(f"L{x:.1f} {below:.1f}L{x:.1f} {height:.1f}")
    return "".join(points) + "L600 0"


def build_heatmaps(confusions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Confusion matrices as tables: rows wanted, columns answered, shade by share of the row.

    `confusions`: field -> matrix of `confusion.matrix`.
    """
    return [
        {"name": name, **_table(matrix["counts"])}
        for name, matrix in sorted(confusions.items())
        if matrix["counts"]
    ]


def _table(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    columns = sorted({answer for row in counts.values() for answer in row} | set(counts))
    rows = [
        {
            "label": reference,
            "cells": [
                {
                    "count": row.get(answer, 0),
                    "right": answer == reference,
                    "share": round(row.get(answer, 0) / sum(row.values()), 3),
                }
                for answer in columns
            ],
        }
        for reference, row in sorted(counts.items())
    ]
    return {"columns": columns, "rows": rows}


def build_line_plot(series: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Return lines of (x, y) points as SVG paths in a box of 600 x 200, with the box's corners."""
    points = [point for line in series.values() for point in line]
    most = max([1.0, *(x for x, _ in points)])
    low, high = (pick([y for _, y in points], default=0.0) for pick in (min, max))
    tall = (high - low) or 1.0

    def path(line: Sequence[tuple[float, float]]) -> str:
        steps = [f"{x / most * 600:.1f} {200 - (y - low) / tall * 200:.1f}" for x, y in line]
        return "M" + "L".join(steps) if steps else ""

    return {
        "most": most,
        "low": low,
        "high": high,
        "paths": {name: path(line) for name, line in series.items()},
    }
