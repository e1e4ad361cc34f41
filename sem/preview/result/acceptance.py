"""What production would say of the result, in its own words, and each metric by its family's test.

Production decides on one primary metric and treats both models' rows as independent samples; it
also knows what a preview does not: when it last accepted, and which data sets its spec names.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.overlap import REFUSED_ABOVE, Overlap
from sem.preview.linear.measure import BenchmarkScore
from sem.preview.stats import deltaone
from sem.preview.stats.deltaone import MetricMeasurement

# Is the new model better by a metric of this kind: one test a family, one answer.
#
# proportion: two-proportion z. continuous: Welch's t, one-sided. zero_inflated_continuous: z on
# the share of non-zeros and Welch on them, Bonferroni, with a bootstrap over units.
# rank_or_ordinal: Mann-Whitney U. All want at least `min_effect`, not only a small p.

ALPHA = 0.05
DRAWS = 2_000


@dataclass(frozen=True)
class MetricFinding:
    """What a comparison found; `effect` is in the metric's own unit, bounds of 95 %."""

    family: str
    passed: bool
    effect: float
    low: float
    high: float
    p: float
    # Cohen's d, Cohen's h or the rank-biserial correlation.
    size: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SideValues:
    """Values of both models on rows; `units` name rows that belong together, as one customer's."""

    before: Sequence[float]
    after: Sequence[float]
    before_units: Sequence[Hashable] | None = None
    after_units: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            values, units = getattr(self, name), getattr(self, f"{name}_units")
            if len(values) < 2 or not all(math.isfinite(value) for value in values):
                raise SemError(
                    f"{name}: {len(values)} values, all of which must be numbers",
                    "compare at least two finite values a side",
                )
            if units is not None and len(units) != len(values):
                raise SemError(f"{name}: {len(units)} units for {len(values)} values", "pair them")


def compare_by_family(
    family: str, sides: SideValues, min_effect: float = 0.0, seed: int = 42
) -> MetricFinding:
    """Return `sides` by the test of `family`; raise SemError for a family that is none."""
    if family not in FAMILIES:
        raise SemError(f"no family {family!r}", f"one of {', '.join(FAMILIES)}")
    return FAMILIES[family](sides, min_effect, seed)


def compare_proportions(sides: SideValues, min_effect: float, seed: int) -> MetricFinding:
    """Return shares of ones: Wald interval of the difference, pooled z, Cohen's h."""
    from scipy.stats import norm

    if {*sides.before, *sides.after} - {0, 1}:
        raise SemError("a proportion is of zeros and ones", "compare it as continuous")
    (n, m), (p, q) = _counts(sides), _means(sides)
    spread = math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
    pooled = (sum(sides.before) + sum(sides.after)) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    chance = float(norm.sf((q - p) / error)) if error else 1.0
    z = float(norm.ppf(1 - ALPHA / 2))
    low, high = q - p - z * spread, q - p + z * spread
    size = 2 * (math.asin(math.sqrt(q)) - math.asin(math.sqrt(p)))
    passed = low > 0 and q - p >= min_effect
    return MetricFinding("proportion", passed, q - p, low, high, chance, size)


def compare_means(sides: SideValues, min_effect: float, seed: int) -> MetricFinding:
    """Means: Welch's t, one-sided, and Cohen's d over the pooled spread."""
    from scipy.stats import ttest_ind

    effect = _means(sides)[1] - _means(sides)[0]
    if _spread(sides) == 0:
        note = ("both sides are constant",)
        passed = effect > 0 and effect >= min_effect
        chance = 0.0 if effect > 0 else 1.0
        return MetricFinding("continuous", passed, effect, effect, effect, chance, 0.0, note)
    test = ttest_ind(sides.after, sides.before, equal_var=False, alternative="greater")
    both = ttest_ind(sides.after, sides.before, equal_var=False)
    low, high = both.confidence_interval(1 - ALPHA)
    passed = test.pvalue < ALPHA and effect >= min_effect
    size = effect / _spread(sides)
    return MetricFinding(
        "continuous", bool(passed), effect, float(low), float(high), float(test.pvalue), size
    )


def zero_inflated(sides: SideValues, min_effect: float, seed: int) -> MetricFinding:
    """Mostly zeros: more non-zeros, or larger ones; the interval is of the mean, by units."""
    share = SideValues([float(v != 0) for v in sides.before], [float(v != 0) for v in sides.after])
    first = compare_proportions(share, 0.0, seed)
    rest = [[v for v in side if v] for side in (sides.before, sides.after)]
    enough = all(len(values) > 1 for values in rest)
    second = compare_means(SideValues(*rest), 0.0, seed) if enough else None
    chance = min(1.0, 2 * min(first.p, second.p if second else 1.0))  # Bonferroni over both
    low, high = _bootstrap(sides, seed)
    effect = _means(sides)[1] - _means(sides)[0]
    notes = () if enough else ("too few non-zero values to compare",)
    passed = chance < ALPHA and low > 0 and effect >= min_effect
    size = effect / _spread(sides) if _spread(sides) else 0.0
    return MetricFinding(
        "zero_inflated_continuous", passed, effect, low, high, chance, size, notes
    )


def compare_ranks(sides: SideValues, min_effect: float, seed: int) -> MetricFinding:
    """Ranks: Mann-Whitney U, one-sided; the effect is the rank-biserial correlation, -1 to 1."""
    from scipy.stats import mannwhitneyu, norm

    n, m = _counts(sides)
    test = mannwhitneyu(sides.after, sides.before, alternative="greater")
    effect = 2 * float(test.statistic) / (n * m) - 1
    margin = float(norm.ppf(1 - ALPHA / 2)) * math.sqrt((n + m + 1) / (3 * n * m))
    passed = bool(test.pvalue < ALPHA and effect >= min_effect)
    return MetricFinding(
        "rank_or_ordinal",
        passed,
        effect,
        max(-1.0, effect - margin),
        min(1.0, effect + margin),
        float(test.pvalue),
        effect,
    )


FAMILIES: dict[str, Callable[[SideValues, float, int], MetricFinding]] = {
    "proportion": compare_proportions,
    "continuous": compare_means,
    "zero_inflated_continuous": zero_inflated,
    "rank_or_ordinal": compare_ranks,
}


def _bootstrap(sides: SideValues, seed: int) -> tuple[float, float]:
    """95 % of DRAWS differences of means, whole units drawn again."""
    import numpy as np

    rng = np.random.default_rng(seed)
    means = []
    for values, units in (
        (sides.before, sides.before_units),
        (sides.after, sides.after_units),
    ):
        groups: dict[Hashable, list[float]] = {}
        for place, value in enumerate(values):
            groups.setdefault(units[place] if units else place, []).append(value)
        totals = np.array([sum(group) for group in groups.values()], dtype=float)
        sizes = np.array([len(group) for group in groups.values()], dtype=float)
        draws = rng.integers(0, len(totals), (DRAWS, len(totals)))
        means.append(totals[draws].sum(axis=1) / sizes[draws].sum(axis=1))
    low, high = np.quantile(means[1] - means[0], [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _counts(sides: SideValues) -> tuple[int, int]:
    return len(sides.before), len(sides.after)


def _means(sides: SideValues) -> tuple[float, float]:
    return math.fsum(sides.before) / len(sides.before), math.fsum(sides.after) / len(sides.after)


def _spread(sides: SideValues) -> float:
    """Return the pooled standard deviation of both sides."""
    squares = sum(
        math.fsum((value - mean) ** 2 for value in values)
        for values, mean in zip((sides.before, sides.after), _means(sides), strict=True)
    )
    return math.sqrt(squares / (sum(_counts(sides)) - 2))


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


def decide_acceptance(
    before: BenchmarkScore,
    after: BenchmarkScore,
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
        MetricMeasurement(f"{side}_{run_id}", f"{side}_{run_id}", scored.metrics[METRIC], n, named)
        for side, scored in (("baseline", before), ("preview", after))
    ]
    record = asdict(deltaone.decide_deltaone(METRIC, *sides, at))
    if refused:
        record |= {"accepted": False, "reason": refused}
    return {**record, "not_known": list(UNKNOWN)}


def measure_leakage(overlap: Overlap, rows: int) -> dict[str, Any]:
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


def compare_metrics(
    before: BenchmarkScore, after: BenchmarkScore, seed: int
) -> dict[str, dict[str, Any]]:
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
        name: asdict(compare_by_family(family, SideValues(old.tolist(), new.tolist()), seed=seed))
        for name, (family, old, new) in sides.items()
    }
