"""DeltaOne: what changed between two models' metrics, by each of the formulas in use.

`delta_one_score` is the pipeline's own: the plain mean of absolute differences, which older
outputs call weighted_average_delta. Beside it stand the relative mean of older previews, weighted
means, and percentage points of one primary metric, on which alone production decides.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sem.core.errors import SemError

# The equal-weight mean of absolute deltas, by its honest name.
METHOD = "simple_average"
Z95 = 1.959963984540054


@dataclass(frozen=True)
class MetricDelta:
    """One metric before and after; higher is better."""

    baseline_value: float
    new_value: float
    absolute_delta: float
    # Of the baseline; 0 where the baseline is 0.
    relative_delta: float
    improvement: bool


def metric_deltas(baseline: Mapping[str, float], new: Mapping[str, float]) -> dict[str, Any]:
    """Return `delta_computation` of the metrics that both sides have.

    Raise SemError when they share none.
    """
    shared = [name for name in baseline if name in new]
    if not shared:
        raise SemError(
            "the two models have no metric in common", "evaluate them with the same code"
        )
    deltas = {name: _delta(float(baseline[name]), float(new[name])) for name in shared}
    return {
        "delta_one_score": mean_absolute_delta(deltas),
        "metric_deltas": {name: asdict(delta) for name, delta in deltas.items()},
        "computation_method": METHOD,
        "metrics_included": shared,
        "improved_metrics": [n for n, d in deltas.items() if d.absolute_delta > 0],
        "degraded_metrics": [n for n, d in deltas.items() if d.absolute_delta < 0],
    }


def _delta(before: float, after: float) -> MetricDelta:
    if not math.isfinite(before) or not math.isfinite(after):
        raise SemError(
            f"a metric is not finite: {before} and {after}", "leave the metric out on both sides"
        )
    relative = (after - before) / before if before else 0.0
    return MetricDelta(before, after, after - before, relative, after > before)


def mean_absolute_delta(
    deltas: Mapping[str, MetricDelta], weights: Mapping[str, float] | None = None
) -> float:
    """Return the mean of absolute deltas, each counting the same or by `weights`, which are
    normalised.
    """
    return _mean({name: delta.absolute_delta for name, delta in deltas.items()}, weights)


def mean_relative_delta(
    deltas: Mapping[str, MetricDelta], weights: Mapping[str, float] | None = None
) -> float:
    """Return the mean of relative deltas: what previews before this one called the score."""
    return _mean({name: delta.relative_delta for name, delta in deltas.items()}, weights)


def _mean(values: Mapping[str, float], weights: Mapping[str, float] | None) -> float:
    weights = dict.fromkeys(values, 1.0) if weights is None else weights
    missing = [name for name in weights if name not in values]
    total = sum(weights[name] for name in values if name in weights)
    if missing or total <= 0 or any(weight < 0 for weight in weights.values()):
        detail = f"no metric {missing[0]!r}" if missing else "they do not add up to more than 0"
        raise SemError(f"weights of DeltaOne: {detail}", "weigh metrics that were measured")
    return sum(values[name] * weight for name, weight in weights.items()) / total


@dataclass(frozen=True)
class MetricMeasurement:
    """One model's primary metric, a proportion, on one data set."""

    run_id: str
    model_id: str
    value: float  # 0 to 1
    n: int
    dataset_hash: str  # sha256:<64 hex>


@dataclass(frozen=True)
class AcceptanceRule:
    """When production accepts: enough rows, enough points, not by chance, not too often."""

    min_rows: int = 800
    min_points: float = 1.0
    cooldown: timedelta = timedelta(hours=24)
    # Data sets of the active spec; empty: any.
    active_hashes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AcceptanceDecision:
    """What production would say, in its own words."""

    accepted: bool
    reason: str
    run_id: str
    baseline_run_id: str
    model_id: str
    dataset_hash: str
    metric_name: str
    delta_percentage_points: float
    ci95_low_percentage_points: float
    ci95_high_percentage_points: float
    n_current: int
    n_baseline: int
    evaluated_at: str


def decide_deltaone(
    metric: str,
    baseline: MetricMeasurement,
    new: MetricMeasurement,
    at: datetime,
    last: datetime | None = None,
    rule: AcceptanceRule | None = None,
) -> AcceptanceDecision:
    """Return the decision on `new` against `baseline` at the time `at`.

    `last` is the acceptance before it.
    """
    low, high = points_interval(baseline, new)
    gained = (new.value - baseline.value) * 100
    reason = _reason(baseline, new, low, gained, _Moment(at, last, rule or AcceptanceRule()))
    return AcceptanceDecision(
        reason == "accepted",
        reason,
        new.run_id,
        baseline.run_id,
        new.model_id,
        new.dataset_hash,
        metric,
        gained,
        low,
        high,
        new.n,
        baseline.n,
        at.isoformat(),
    )


@dataclass(frozen=True)
class _Moment:
    at: datetime
    last: datetime | None
    rule: AcceptanceRule


def _reason(
    baseline: MetricMeasurement, new: MetricMeasurement, low: float, gained: float, now: _Moment
) -> str:
    rule, ends = now.rule, now.last and now.last + now.rule.cooldown
    if min(baseline.n, new.n) < rule.min_rows:
        return "insufficient_samples"
    if baseline.dataset_hash != new.dataset_hash:
        return "dataset_hash_mismatch"
    if rule.active_hashes and new.dataset_hash not in rule.active_hashes:
        return "dataset_hash_not_in_active_spec"
    if ends and now.at < ends:
        return f"cooldown_active_until_{ends.isoformat()}"
    if gained < rule.min_points:
        return "delta_below_threshold"
    return "accepted" if low > 0 else "not_statistically_significant"


def points_interval(baseline: MetricMeasurement, new: MetricMeasurement) -> tuple[float, float]:
    """Return the 95 % interval of the difference in percentage points, as of two independent
    samples.

    Production's own (Wald). On the same rows the paired interval of `estimate` is narrower.
    """
    if min(baseline.n, new.n) < 1:
        raise SemError("a metric of no rows has no interval", "evaluate both models on rows")
    spread = sum(side.value * (1 - side.value) / side.n for side in (baseline, new))
    margin = Z95 * math.sqrt(spread)
    gained = new.value - baseline.value
    return (gained - margin) * 100, (gained + margin) * 100
