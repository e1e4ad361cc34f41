"""What two runs on the same examples show: differences, tests, intervals, noise.

Examples are paired by id; an id that only one run has is left out and counted. The interval and
its reasons are in `clusters`; how many rows a claim needs is in `planning`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sem.eval.scoring.scoring import Score
from sem.eval.stats import clusters
from sem.eval.stats.clusters import DomainDifferences

Value = Callable[[Score], float | None]
DRAWS = 10_000
SEED = 42


@dataclass(frozen=True)
class PairedDifferences:
    """Differences of two runs by domain, and what could not be paired or scored."""

    found: DomainDifferences
    # Ids that only one of the runs has.
    unpaired: int
    # Pairs in which a side is `None`.
    unscored: int

    @property
    def gains(self) -> int:
        return int(self.found.gains.sum())

    @property
    def losses(self) -> int:
        return int(self.found.losses.sum())


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences in percentage points, with a 95 % interval."""

    points: float
    low: float
    high: float
    pairs: int
    domains: int
    unpaired: int = 0
    unscored: int = 0
    # Percentile bootstrap over domains, for the record.
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None

    @property
    def is_shown(self) -> bool:
        """Return whether the interval excludes 0 on the side of a gain.

        Needs at least 2 domains.
        """
        return self.low > 0 and self.domains > 1

    def sentence(self) -> str:
        """Return the verdict in the plan's words."""
        interval = f"[{self.low:+.1f}, {self.high:+.1f}]"
        if self.is_shown:
            return f"Accuracy improved by {self.points:.1f} points {interval}"
        return f"no improvement shown: {self.points:+.1f} points {interval}"

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "shown": self.is_shown}


def paired_differences(
    before: Sequence[Score],
    after: Sequence[Score],
    measure: str,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Difference:
    """Return `after` minus `before` in `measure` (an attribute of Score), paired by example id, in
    points.

    `low` and `high` are the jackknife t interval of `clusters.bounds`; `draws` and `seed` are
    those of the percentile bootstrap that is reported beside it.
    """
    return mean_difference(
        pair_scores(before, after, lambda score: getattr(score, measure)), draws, seed
    )


def mean_difference(pairs: PairedDifferences, draws: int = DRAWS, seed: int = SEED) -> Difference:
    """Return the mean of `pairs` with its intervals, in points.

    Without pairs everything is possible.

    Without `draws` there is no bootstrap interval beside the one that decides.
    """
    differences = pairs.found
    if not differences.count:
        return Difference(0.0, -100.0, 100.0, 0, 0, pairs.unpaired, pairs.unscored)
    bootstrap_bounds = clusters.bootstrap_domains(differences, draws, seed) if draws else ()
    figures = [differences.mean, *clusters.confidence_bounds(differences), *bootstrap_bounds]
    points, low, high, *bounds = (round(float(value) * 100, 2) for value in figures)
    return Difference(
        points,
        low,
        high,
        differences.count,
        differences.domains,
        pairs.unpaired,
        pairs.unscored,
        *bounds,
    )


def best_of(sides: Mapping[str, Sequence[Score]], measure: str) -> str | None:
    """Return the name of the side with the highest mean `measure`; of equals the first."""
    means = {
        name: sum(float(getattr(score, measure)) for score in scores) / max(1, len(scores))
        for name, scores in sides.items()
    }
    return max(means, key=lambda name: means[name], default=None)


def pair_scores(
    before: Sequence[Score], after: Sequence[Score], value: Value
) -> PairedDifferences:
    """Return the differences in `value`, `after` minus `before`, of the examples that both runs
    have.
    """
    was = {score.id: score for score in before}
    now = {score.id: score for score in after}
    differences, domains, unscored = [], [], 0
    for name in sorted(was.keys() & now.keys()):
        old, new = value(was[name]), value(now[name])
        if old is None or new is None:
            unscored += 1
            continue
        differences.append(float(new) - float(old))
        domains.append(now[name].domain)
    unpaired = len(was.keys() ^ now.keys())
    return PairedDifferences(clusters.sum_by_cluster(differences, domains), unpaired, unscored)


def slot_pairs(before: Sequence[Score], after: Sequence[Score]) -> dict[str, PairedDifferences]:
    """Return the differences of every `task.field`, over the examples where a run has that slot.

    A slot that one run has and the other has not is one that neither the reference nor that
    other run wrote: its silence is right. Left out, a spurious field would cost nothing.
    """
    before_of, after_of = _by_id(before), _by_id(after)
    holders: dict[tuple[str, str], set[str]] = {}
    for name in before_of.keys() & after_of.keys():
        for score in (before_of[name], after_of[name]):
            for field in score.slots:
                holders.setdefault((score.task, field), set()).add(name)
    pairs_by_field = {}
    for task, field in sorted(holders):
        ids = holders[task, field]
        old, new = ([side[name] for name in ids] for side in (before_of, after_of))
        pairs_by_field[f"{task}.{field}"] = pair_scores(old, new, _passes(field))
    return pairs_by_field


def _by_id(scores: Sequence[Score]) -> Mapping[str, Score]:
    return {score.id: score for score in scores}


def _passes(field: str) -> Value:
    def value(score: Score) -> float | None:
        slot = score.slots.get(field)
        if slot is None:
            return 1.0
        return None if slot.passed is None else float(slot.passed)

    return value


def mcnemar_p_value(gains: int, losses: int) -> float:
    """Exact two-sided McNemar p-value of `gains` against `losses`; takes rows as independent."""
    from scipy import special

    tail = special.bdtr(min(gains, losses), gains + losses, 0.5)
    return min(1.0, 2 * float(tail))


def clopper_pearson(hits: int, rows: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share; nothing is known without rows."""
    if not rows:
        return 0.0, 1.0
    low, high = clusters.binomial_bounds(hits, rows, (1 - confidence) / 2)
    return float(low), float(high)


def adjust_p_values(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values of a family, by name (Holm 1979)."""
    adjusted, least = {}, 0.0
    for place, name in enumerate(sorted(values, key=lambda key: (values[key], key))):
        least = max(least, min(1.0, values[name] * (len(values) - place)))
        adjusted[name] = least
    return adjusted


@dataclass(frozen=True)
class Spread:
    """One figure over repeated runs, seeds or generations, in the figure's own unit."""

    mean: float
    sd: float
    # 95 % t interval of the mean.
    low: float
    high: float
    runs: int
    # a difference of two single runs below this is noise (95 %).
    noise: float | None


def measure_spread(figures: Sequence[float]) -> Spread:
    """Return mean and spread of `figures`.

    One run has no spread, so its noise is unknown (None).
    """
    import math
    from statistics import fmean, stdev

    from scipy import special

    mean, runs = fmean(figures), len(figures)
    if runs < 2:
        return Spread(mean, 0.0, mean, mean, runs, None)
    sd, factor = stdev(figures), -float(special.stdtrit(runs - 1, 0.025))
    half = factor * sd / math.sqrt(runs)
    return Spread(mean, sd, mean - half, mean + half, runs, factor * sd * math.sqrt(2))


def noise_floor(repeats: Sequence[Sequence[Score]], measure: str) -> Spread:
    """Return the spread of `measure`, in points, over `repeats` of the same model on the same
    examples.
    """
    means = []
    for scores in repeats:
        values = [getattr(score, measure) for score in scores]
        numbers = [float(value) for value in values if value is not None]
        means.append(100 * sum(numbers) / len(numbers) if numbers else 0.0)
    return measure_spread(means)
