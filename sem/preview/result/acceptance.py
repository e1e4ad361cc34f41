"""What production would say of the result, in its own words, and each metric by its family's test.

Production decides on one primary metric and treats both models' rows as independent samples; it
also knows what a preview does not: when it last accepted, and which data sets its spec names.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sem.core import files
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.overlap import REFUSED_ABOVE, Overlap
from sem.preview.linear.measure import Scored
from sem.preview.stats import comparators, deltaone
from sem.preview.stats.comparators import Sides
from sem.preview.stats.deltaone import Measured

METRIC = "accuracy"
LEAKS = "benchmark_overlap_above_1_percent"
# Production decides on a share of right rows only.
NO_PROPORTION = "metric_is_no_proportion"
# What the rule asks for and a preview cannot know.
UNKNOWN = ("cooldown", "active_spec")


def benchmark_rows_hash(benchmark: Sequence[Sample]) -> str:
    """Return what names the rows of `benchmark`, whatever their order."""
    rows = sorted([sample.label, sample.content()] for sample in benchmark)
    return f"sha256:{files.sha256_json(rows)}"


def rule(
    before: Scored,
    after: Scored,
    benchmark: Sequence[Sample],
    run_id: str,
    at: datetime,
    refused: str | None = None,
) -> dict[str, Any]:
    """Return production's decision on the measured metric, and what was not known to it.

    `refused` names why the contribution itself is refused: it is not accepted then, whatever its
    metric.
    """
    if before.errors is not None:
        return {"accepted": False, "reason": NO_PROPORTION, "not_known": list(UNKNOWN)}
    named, n = benchmark_rows_hash(benchmark), len(benchmark)
    sides = [
        Measured(f"{side}_{run_id}", f"{side}_{run_id}", scored.metrics[METRIC], n, named)
        for side, scored in (("baseline", before), ("preview", after))
    ]
    record = asdict(deltaone.decide_deltaone(METRIC, *sides, at))
    if refused:
        record |= {"accepted": False, "reason": refused}
    return {**record, "not_known": list(UNKNOWN)}


def leaks(overlap: Overlap, rows: int) -> dict[str, Any]:
    """Return how much of a contribution of `rows` rows the benchmark holds, and the refusal above
    1 %.
    """
    share = len(overlap.benchmark) / rows
    return {
        "exact": len(overlap.benchmark_exact),
        "near": len(overlap.benchmark_near),
        "share": share,
        "refused": LEAKS if share > REFUSED_ABOVE else None,
    }


def compare_metrics(before: Scored, after: Scored, seed: int) -> dict[str, dict[str, Any]]:
    """Return each metric that has rows by its family's test, both sides as independent samples.

    Higher is better: ranks and errors are turned. No metric of classes is mostly zeros.
    """
    if before.errors is not None:
        sides = {"absolute_error": ("continuous", -before.errors, -after.errors)}
    else:
        sides = {
            "accuracy": ("proportion", before.right, after.right),
            "log_likelihood": ("continuous", before.likelihood, after.likelihood),
            "rank_of_the_class": ("rank_or_ordinal", -before.ranks, -after.ranks),
        }
    return {
        name: asdict(
            comparators.compare_by_family(family, Sides(old.tolist(), new.tolist()), seed=seed)
        )
        for name, (family, old, new) in sides.items()
    }
