"""The five DeltaOne formulas on the published example, and production's rule with its reasons."""

from datetime import UTC, datetime, timedelta

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.preview.stats import deltaone
from sem.preview.stats.deltaone import AcceptanceRule, MetricDelta, MetricMeasurement

BEFORE = {"accuracy": 0.85, "precision": 0.83, "recall": 0.87, "f1": 0.85, "auroc": 0.91}
AFTER = {"accuracy": 0.88, "precision": 0.86, "recall": 0.89, "f1": 0.87, "auroc": 0.93}
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HASH = f"sha256:{'a' * 64}"


def deltas(before=BEFORE, after=AFTER) -> dict[str, MetricDelta]:
    found = deltaone.metric_deltas(before, after)["metric_deltas"]
    return {name: MetricDelta(**delta) for name, delta in found.items()}


def test_the_formulas_give_the_published_figures() -> None:
    assert deltaone.metric_deltas(BEFORE, AFTER)["delta_one_score"] == pytest.approx(0.024)
    assert deltaone.mean_relative_delta(deltas()) == pytest.approx(0.027987, abs=5e-7)
    weights = {"accuracy": 3.0, "auroc": 1.0}
    assert deltaone.mean_absolute_delta(deltas(), weights) == pytest.approx((3 * 0.03 + 0.02) / 4)


def test_improvement_is_a_boolean_and_lists_say_which() -> None:
    found = deltaone.metric_deltas(
        {"accuracy": 0.5, "f1": 0.5, "x": 1}, {"accuracy": 1, "f1": 0.5}
    )
    assert found["metric_deltas"]["accuracy"]["improvement"] is True
    assert found["metric_deltas"]["f1"]["improvement"] is False
    assert (found["improved_metrics"], found["degraded_metrics"]) == (["accuracy"], [])
    assert found["metrics_included"] == ["accuracy", "f1"]


def test_a_baseline_of_zero_has_no_relative_delta() -> None:
    assert deltas({"f1": 0.0}, {"f1": 0.4})["f1"].relative_delta == 0.0


def test_the_shipped_output_is_the_mean_of_absolute_deltas(shared) -> None:
    path = shared / "compat" / "hokusai" / "outputs" / "delta_output_1749778254976095.json"
    shipped = files.read_json(path)
    again = deltaone.metric_deltas(
        shipped["baseline_model"]["metrics"], shipped["new_model"]["metrics"]
    )
    score = shipped["delta_computation"]["delta_one_score"]
    assert again["delta_one_score"] == pytest.approx(score, abs=1e-15)
    assert again["metric_deltas"] == shipped["delta_computation"]["metric_deltas"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": 1.0}, {"b": 1.0}, "the two models have no metric in common"),
        ({"a": float("nan")}, {"a": 1.0}, "a metric is not finite: nan and 1.0"),
        ({"a": 1.0}, {"a": float("inf")}, "a metric is not finite: 1.0 and inf"),
    ],
)
def test_metrics_that_cannot_be_compared_are_refused(before, after, message) -> None:
    with pytest.raises(SemError) as caught:
        deltaone.metric_deltas(before, after)
    assert caught.value.message == message


@pytest.mark.parametrize("weights", [{}, {"accuracy": 0}, {"nope": 1}, {"accuracy": -1, "f1": 2}])
def test_weights_that_weigh_nothing_are_refused(weights) -> None:
    with pytest.raises(SemError, match="weights of DeltaOne"):
        deltaone.mean_absolute_delta(deltas(), weights)


def side(value: float, n: int = 2_000, of: str = HASH) -> MetricMeasurement:
    return MetricMeasurement(f"run-{value}", "model", value, n, of)


@pytest.mark.parametrize(
    ("before", "after", "rule", "last", "reason"),
    [
        (side(0.80), side(0.86), AcceptanceRule(), None, "accepted"),
        (side(0.80, 799), side(0.86), AcceptanceRule(), None, "insufficient_samples"),
        (side(0.80), side(0.86, 799), AcceptanceRule(), None, "insufficient_samples"),
        (side(0.80, of="sha256:b"), side(0.86), AcceptanceRule(), None, "dataset_hash_mismatch"),
        (
            side(0.80),
            side(0.86),
            AcceptanceRule(active_hashes=frozenset("x")),
            None,
            "dataset_hash_not_in_active_spec",
        ),
        (
            side(0.80),
            side(0.86),
            AcceptanceRule(),
            NOW - timedelta(hours=23),
            "cooldown_active_until_2026-11-21T13:00:00+00:00",
        ),
        (side(0.80), side(0.86), AcceptanceRule(), NOW - timedelta(hours=24), "accepted"),
        (side(0.80), side(0.809), AcceptanceRule(), None, "delta_below_threshold"),
        (side(0.80), side(0.82), AcceptanceRule(), None, "not_statistically_significant"),
    ],
)
def test_production_gives_its_reason(before, after, rule, last, reason) -> None:
    found = deltaone.decide_deltaone("accuracy", before, after, NOW, last, rule)
    assert (found.reason, found.accepted) == (reason, reason == "accepted")
    assert found.delta_percentage_points == pytest.approx((after.value - before.value) * 100)


def test_the_interval_is_walds() -> None:
    low, high = deltaone.points_interval(side(0.8, 1_000), side(0.9, 500))
    margin = 1.959963984540054 * (0.8 * 0.2 / 1_000 + 0.9 * 0.1 / 500) ** 0.5 * 100
    assert (low, high) == pytest.approx((10 - margin, 10 + margin))
