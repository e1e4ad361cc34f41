"""What a sweep found: each point over its seeds, and whether the best one stands out."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sem.core import jsonio
from sem.train.sweep.search import Point, Sweep

FORMAT = "sweep.v1"
COLUMNS = ("point", "mean", "min", "max", "seeds", "seconds a run", "state")


@dataclass(frozen=True)
class PointRun:
    """One run of a point; value: the metric on val at the step that was kept."""

    run: str
    seed: int
    value: float
    seconds: float


@dataclass(frozen=True)
class PointResult:
    """A point with its runs; state: complete, pruned or failed, and why."""

    point: Point
    state: str
    runs: tuple[PointRun, ...] = ()
    reason: str = ""

    @property
    def values(self) -> list[float]:
        """Return the metric of each seed."""
        return [run.value for run in self.runs]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def name(self) -> str:
        return point_words(self.point)


@dataclass(frozen=True)
class SweepTable:
    """All points of a sweep on one snapshot."""

    sem: str
    name: str
    sweep: Sweep
    snapshot: dict[str, Any]
    tried: tuple[PointResult, ...]

    @property
    def complete(self) -> list[PointResult]:
        """Points with a value for every seed, best first."""
        whole = [point for point in self.tried if point.state == "complete"]
        return sorted(whole, key=lambda point: point.mean, reverse=self.sweep.greater_is_better)

    @property
    def rest(self) -> list[PointResult]:
        """Points that were pruned or failed."""
        return [point for point in self.tried if point.state != "complete"]


def point_words(point: Point) -> str:
    """Return `point` as a person writes it."""
    return " ".join(f"{key}={jsonio.canonical_json(value)}" for key, value in point.items())


def point_rows(table: SweepTable) -> list[tuple[str, ...]]:
    """COLUMNS of every point, best first."""
    return [_row(point) for point in (*table.complete, *table.rest)]


def _row(point: PointResult) -> tuple[str, ...]:
    state = f"{point.state}: {point.reason}" if point.reason else point.state
    if not point.runs:
        return (point.name, "-", "-", "-", "0", "-", state)
    figures = (point.mean, min(point.values), max(point.values))
    seconds = statistics.fmean(run.seconds for run in point.runs)
    return (
        point.name,
        *(f"{x:.4f}" for x in figures),
        str(len(point.runs)),
        f"{seconds:.1f}",
        state,
    )


def describe_best_point(table: SweepTable) -> str:
    """Return whether the best point is beyond the spread of the second over seeds, in one
    sentence.
    """
    points, seeds = table.complete, len(table.sweep.seeds)
    if not points:
        return "No point was trained with every seed: nothing is shown."
    if len(points) == 1:
        return f"Only {points[0].name} was trained with every seed: there is nothing to compare."
    best, second = points[:2]
    greater = table.sweep.greater_is_better
    apart = (
        min(best.values) > max(second.values) if greater else max(best.values) < min(second.values)
    )
    if apart:
        return (
            f"{best.name} is beyond the spread of the second, {second.name}: every one of its "
            f"{seeds} seeds is better than all of the other's."
        )
    alike = [point.name for point in points[1:] if _overlap(best, point)]
    return (
        f"No difference shown: over {seeds} seeds the values of {best.name} overlap with "
        f"those of {len(alike)} other points ({'; '.join(alike[:3])})."
    )


def _overlap(first: PointResult, second: PointResult) -> bool:
    return min(first.values) <= max(second.values) and min(second.values) <= max(first.values)


def sweep_caveat(table: SweepTable) -> str:
    """Return what the figures are, and what they are not."""
    return (
        f"{table.sweep.metric} on val of snapshot v{table.snapshot['version']}, "
        f"{len(table.tried)} points x {len(table.sweep.seeds)} seeds. The best of several is "
        "flattered by the choice: `fab eval.report` on test says what it is worth."
    )


def sweep_json(table: SweepTable) -> dict[str, Any]:
    """sweep.json: every point with its runs, the best and what is shown."""
    points = table.complete
    return {
        "format": FORMAT,
        "sem": table.sem,
        "sweep": table.name,
        "settings": asdict(table.sweep),
        "snapshot": table.snapshot,
        "part": "val",
        "points": [_entry(point) for point in (*points, *table.rest)],
        "best": points[0].point if points else None,
        "verdict": describe_best_point(table),
    }


def _entry(point: PointResult) -> dict[str, Any]:
    entry = {
        "set": point.point,
        "state": point.state,
        "reason": point.reason,
        "n": len(point.runs),
    }
    if point.runs:
        entry |= {"mean": point.mean, "min": min(point.values), "max": max(point.values)}
    return entry | {"runs": [asdict(run) for run in point.runs]}


def point_yaml(point: Point) -> str:
    """Return `point` as lines for train.yaml."""
    nested: dict[str, Any] = {}
    for key, value in point.items():
        *parents, last = key.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return "".join(f"{line}\n" for line in _lines(nested))


def _lines(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")
        else:  # a JSON scalar is a YAML scalar
            yield f"{indent}{key}: {jsonio.canonical_json(value)}"


def from_rows(rows: Sequence[dict[str, Any]]) -> list[PointResult]:
    """Points as `asdict` wrote them."""
    return [
        PointResult(**{**row, "runs": tuple(PointRun(**run) for run in row["runs"])})
        for row in rows
    ]
