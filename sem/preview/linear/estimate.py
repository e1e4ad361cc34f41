"""The estimate: the same code, the same rows apart from the contribution, the same benchmark.

The baseline learns from the base rows, the candidate from them and the contribution; each has its
own encoder, or words that only the contribution knows would dilute the baseline. Differences are
paired by benchmark row. A ladder of nested parts of the contribution says how the gain grows.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sem.core.errors import SemError
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Features
from sem.preview.linear import kept_fits, measure, number_targets
from sem.preview.linear.learners import FitBudget, Model
from sem.preview.linear.measure import BenchmarkScore
from sem.preview.stats.paired_gain import PairedGain, measure_paired_gain

# What the gain grows to when all rows of a contribution are learnt from, not a sample of them.
#
# The rungs of the ladder are read as a power law, gain(n) = B·(1 - (1 + n/m)^-c), which is a -
# b·n^-c through the origin: no rows, no gain. Shapes (m, c) on a grid weigh as much as they fit
# the rungs; the last rung is scaled by their mean, and their spread joins its interval. All
# shapes are concave, so that the gain never grows faster than the rows.

HALF = 1.959963984540054
EXPONENTS = (0.1, 0.25, 0.5, 1.0, 2.0)
# m, in rows of the base.
ORIGINS = (0.03, 0.1, 0.3, 1.0, 3.0)
# Of a rung's own error: two rows of thousands are no certainty.
LEAST = 1e-4


@dataclass(frozen=True)
class LadderRung:
    """One rung of the ladder."""

    rows: int
    gain: PairedGain


@dataclass(frozen=True)
class GainExtrapolation:
    """The factor by which the last rung's gain grows, and how far shapes disagree on it."""

    factor: float
    spread: float


def estimate_full_gain(steps: Sequence[LadderRung], base: int, total: int) -> PairedGain:
    """Return the gain at `total` contributed rows over `base` rows, by `steps`.

    Where the last rung has all of them, its gain is returned.

    The error is the last rung's, scaled, and the spread of the factor, added in squares.
    """
    last = steps[-1]
    if total <= last.rows:
        return last.gain
    reach = extrapolate_gain(steps, base, total)
    mean = last.gain.mean * reach.factor
    by_shape = HALF * abs(last.gain.mean) * reach.spread
    low = math.hypot((last.gain.mean - last.gain.low) * reach.factor, by_shape)
    high = math.hypot((last.gain.high - last.gain.mean) * reach.factor, by_shape)
    return PairedGain(mean, mean - low, mean + high, last.gain.n).bounded()


def extrapolate_gain(steps: Sequence[LadderRung], base: int, total: int) -> GainExtrapolation:
    """Return how much more `total` rows give than the rows of the last of `steps`."""
    fits = [
        (_misfit(steps, shape), shape(total) / shape(steps[-1].rows)) for shape in _shapes(base)
    ]
    least = min(misfit for misfit, _ in fits)
    weights = [math.exp((least - misfit) / 2) for misfit, _ in fits]
    total_weight = math.fsum(weights)
    factor = math.fsum(w * f for w, (_, f) in zip(weights, fits, strict=True)) / total_weight
    square = math.fsum(w * (f - factor) ** 2 for w, (_, f) in zip(weights, fits, strict=True))
    return GainExtrapolation(factor, math.sqrt(square / total_weight))


class _GrowthCurve:
    """1 - (1 + n/m)^-c."""

    def __init__(self, m: float, c: float) -> None:
        self.m, self.c = m, c

    def __call__(self, rows: int) -> float:
        return -math.expm1(-self.c * math.log1p(rows / self.m))


def _shapes(base: int) -> Iterator[_GrowthCurve]:
    for origin in ORIGINS:
        for exponent in EXPONENTS:
            yield _GrowthCurve(max(1.0, base * origin), exponent)


def _misfit(steps: Sequence[LadderRung], shape: _GrowthCurve) -> float:
    """Return the chi-square of `steps` about the best multiple of `shape`."""
    errors = [max(step.gain.width / (2 * HALF), LEAST) for step in steps]
    values = [shape(step.rows) for step in steps]
    top = math.fsum(
        s * step.gain.mean / e**2 for s, step, e in zip(values, steps, errors, strict=True)
    )
    height = top / math.fsum(s * s / e**2 for s, e in zip(values, errors, strict=True))
    return math.fsum(
        ((step.gain.mean - height * s) / e) ** 2
        for s, step, e in zip(values, steps, errors, strict=True)
    )


# Shares of the contribution.
LADDER = (0.25, 0.5, 1.0)
PRIMARY = "accuracy"


@dataclass(frozen=True)
class EstimateRows:
    """What is learnt from and tested on; `units` tie benchmark rows that belong together."""

    shape: ColumnShape
    base: tuple[Sample, ...]
    # The contribution, without what the benchmark holds.
    given: tuple[Sample, ...]
    benchmark: tuple[Sample, ...]
    units: tuple[str, ...] | None = None

    @cached_property
    def features(self) -> Features:
        """Return all of them as numbers, computed once."""
        return Features(self.shape, (*self.base, *self.given, *self.benchmark))

    def only(self, base: int, contribution: int) -> "EstimateRows":
        """As many base and contributed rows, by lot; the features are shared."""
        rows = replace(self, base=_some(self.base, base), given=_some(self.given, contribution))
        rows.__dict__["features"] = self.features
        return rows

    def __post_init__(self) -> None:
        if len(self.benchmark) < 2:
            raise SemError(
                f"the benchmark has {len(self.benchmark)} rows",
                "give at least two, preferably 500",
            )


@dataclass(frozen=True)
class GainEstimate:
    """What the contribution changed."""

    before: BenchmarkScore
    after: BenchmarkScore
    # Of the share of right rows, on the rows learnt from.
    gain: PairedGain
    # The same when all of the contribution is learnt from, by the learning curve.
    full: PairedGain
    # Rows of that: as many as the last rung's where nothing is extrapolated.
    reached: int
    # Of the right class's log-likelihood: nats, within -1 and 1 each.
    likelihood: PairedGain | None
    ladder: tuple[LadderRung, ...]
    seconds: float
    # Both models converged and every rung was trained.
    complete: bool
    # Baseline and candidate.
    models: tuple[Model, Model]
    notes: tuple[str, ...] = field(default=())


def estimate_gain(
    rows: EstimateRows,
    budget: FitBudget,
    total: int | None = None,
    baseline: Model | None = None,
    watched: Callable[[str], None] = lambda _: None,
) -> GainEstimate:
    """Return what `rows.given` adds to `rows.base`, and what `total` such rows would add.

    `baseline`: a model of the base rows that exists already.
    """
    began = time.monotonic()
    watched("baseline")
    before = baseline or _fitted(rows.features, rows.base, budget)
    score = (
        number_targets.score_regression if rows.shape.is_of_numbers else measure.score_benchmark
    )
    old = score(before, rows.benchmark)
    steps, new, after = [], old, before
    whole = kept_fits.kept_tuned(rows.features, (*rows.base, *rows.given), budget)
    # Nothing new: the candidate is the baseline.
    if not rows.given:
        steps = [LadderRung(0, PairedGain(0.0, 0.0, 0.0, len(rows.benchmark)))]
    for share in LADDER if rows.given else ():
        if steps and budget.deadline is not None and _is_late(began, budget, len(steps)):
            break
        part = draw_nested_sample(rows.given, share)
        watched(f"candidate on {len(part):,} contributed rows")
        after = kept_fits.kept_fit(rows.features, (*rows.base, *part), whole)
        new = score(after, rows.benchmark)
        steps.append(LadderRung(len(part), measure_paired_gain(old.right, new.right, rows.units)))
    complete = (
        before.converged and after.converged and (len(steps) == len(LADDER) or not rows.given)
    )
    notes = () if complete else ("the time was up before training was done",)
    reached = max(total or len(rows.given), steps[-1].rows)
    return GainEstimate(
        before=old,
        after=new,
        gain=steps[-1].gain,
        full=estimate_full_gain(steps, len(rows.base), reached),
        reached=reached,
        likelihood=_likelier(old, new, rows.units),
        ladder=tuple(steps),
        seconds=time.monotonic() - began,
        complete=complete,
        models=(before, after),
        notes=(*dict.fromkeys((*old.notes, *new.notes)), *notes),
    )


def _fitted(features: Features, samples: Sequence[Sample], budget: FitBudget) -> Model:
    return kept_fits.kept_fit(features, samples, kept_fits.kept_tuned(features, samples, budget))


def draw_nested_sample(samples: Sequence[Sample], share: float) -> tuple[Sample, ...]:
    """Return a `share` of `samples` in their order, by lot.

    Larger shares hold the smaller ones.
    """
    return _some(samples, max(1, round(len(samples) * share)))


def _some(samples: Sequence[Sample], count: int) -> tuple[Sample, ...]:
    order = sorted(range(len(samples)), key=lambda n: (samples[n].lot("ladder"), n))
    return tuple(samples[n] for n in sorted(order[:count]))


def _is_late(began: float, budget: FitBudget, rungs: int) -> bool:
    """Return whether the next rung, which takes about twice as long as all before, would be too
    late.
    """
    spent = time.monotonic() - began
    return budget.deadline is not None and time.monotonic() + spent / rungs > budget.deadline


def _likelier(
    old: BenchmarkScore, new: BenchmarkScore, units: Sequence[str] | None
) -> PairedGain | None:
    """Return the gain in log-likelihood.

    A row moves it by 1 nat at most, so that none decides alone.
    """
    import numpy as np

    if old.likelihood is None or new.likelihood is None:
        return None
    change = np.clip(new.likelihood - old.likelihood, -1.0, 1.0)
    return measure_paired_gain(np.zeros(len(change)).tolist(), change.tolist(), units)
