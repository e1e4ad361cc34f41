"""The estimate: the same code, the same rows apart from the contribution, the same benchmark.

The baseline learns from the base rows, the candidate from them and the contribution; each has its
own encoder, or words that only the contribution knows would dilute the baseline. Differences are
paired by benchmark row. A ladder of nested parts of the contribution says how the gain grows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sem.core.errors import SemError
from sem.eval import clusters
from sem.preview import learners, measure
from sem.preview.columns import Shape
from sem.preview.contribution import Sample
from sem.preview.encoders import Features
from sem.preview.learners import Budget
from sem.preview.measure import Scored

LADDER = (0.25, 0.5, 1.0)  # shares of the contribution
PRIMARY = "accuracy"


@dataclass(frozen=True)
class Rows:
    """What is learnt from and tested on; `units` tie benchmark rows that belong together."""

    shape: Shape
    base: tuple[Sample, ...]
    given: tuple[Sample, ...]  # the contribution, without what the benchmark holds
    benchmark: tuple[Sample, ...]
    units: tuple[str, ...] | None = None

    @cached_property
    def features(self) -> Features:
        """All of them as numbers, computed once."""
        return Features(self.shape, (*self.base, *self.given, *self.benchmark))

    def __post_init__(self) -> None:
        if len(self.benchmark) < 2:
            raise SemError(
                f"the benchmark has {len(self.benchmark)} rows", "give at least two, better 500"
            )


@dataclass(frozen=True)
class Gain:
    """A paired difference over the benchmark, candidate less baseline, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True)
class Step:
    """One rung of the ladder."""

    rows: int
    gain: Gain


@dataclass(frozen=True)
class Estimate:
    """What the contribution changed."""

    before: Scored
    after: Scored
    gain: Gain  # of the share of right rows
    likelihood: Gain  # of the log-likelihood of the right class, in nats, within -1 and 1 each
    ladder: tuple[Step, ...]
    seconds: float
    complete: bool  # both models converged and every rung was trained
    notes: tuple[str, ...] = field(default=())


def estimate(
    rows: Rows, budget: Budget, watched: Callable[[str], None] = lambda _: None
) -> Estimate:
    """What `rows.given` adds to `rows.base`."""
    began = time.monotonic()
    watched("baseline")
    before = learners.fit(rows.features, rows.base, budget)
    old = measure.score(before, rows.benchmark)
    steps, new, after = [], old, before
    for share in LADDER:
        if steps and budget.deadline is not None and _is_late(began, budget, len(steps)):
            break
        part = nested(rows.given, share)
        watched(f"candidate on {len(part):,} contributed rows")
        after = learners.fit(rows.features, (*rows.base, *part), budget)
        new = measure.score(after, rows.benchmark)
        steps.append(Step(len(part), gained(old.right, new.right, rows.units)))
    complete = before.converged and after.converged and len(steps) == len(LADDER)
    notes = () if complete else ("the time was up before training was done",)
    return Estimate(
        old,
        new,
        steps[-1].gain,
        _likelier(old, new, rows.units),
        tuple(steps),
        time.monotonic() - began,
        complete,
        (*dict.fromkeys((*old.notes, *new.notes)), *notes),
    )


def nested(samples: Sequence[Sample], share: float) -> tuple[Sample, ...]:
    """A SHARE of SAMPLES in their order, by lot; larger shares hold the smaller ones."""
    count = max(1, round(len(samples) * share))
    order = sorted(range(len(samples)), key=lambda n: (samples[n].lot("ladder"), n))
    return tuple(samples[n] for n in sorted(order[:count]))


def _is_late(began: float, budget: Budget, done: int) -> bool:
    """Whether the next rung, which takes about twice as long as all before, would be too late."""
    spent = time.monotonic() - began
    return budget.deadline is not None and time.monotonic() + spent / done > budget.deadline


def gained(before: Sequence[float], after: Sequence[float], units: Sequence[str] | None) -> Gain:
    """The mean of AFTER - BEFORE, each within -1 and 1, with its interval over units."""
    differences = [float(b - a) for a, b in zip(before, after, strict=True)]
    names = list(units) if units else [str(number) for number in range(len(differences))]
    found = clusters.gather(differences, names)
    low, high = clusters.bounds(found)
    return Gain(float(found.mean), float(low), float(high), len(differences))


def _likelier(old: Scored, new: Scored, units: Sequence[str] | None) -> Gain:
    """The gain in log-likelihood; a row moves it by 1 nat at most, so that none decides alone."""
    import numpy as np

    change = np.clip(new.likelihood - old.likelihood, -1.0, 1.0)
    return gained(np.zeros(len(change)).tolist(), change.tolist(), units)
