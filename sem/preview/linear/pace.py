"""How much fits the time: a warm-up is measured, and the contribution cut to what fits.

The time of a fit grows with its rows, its classes and its steps; the warm-up knows how fast this
machine is now. What is cut is said: the rest of the contribution is left to the learning curve.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sem.preview.contribution.contribution import Sample
from sem.preview.linear import kept_fits as fits
from sem.preview.linear.estimate import LADDER, Rows, nested
from sem.preview.linear.learners import Budget

WARM_ROWS = 300
WARM_STEPS = 5
# Until a fit stands still.
USUAL_STEPS = 20
# Rows below which nothing is cut.
FEWEST = 200


@dataclass(frozen=True)
class Pace:
    """Seconds of one row, class and step on this machine now."""

    seconds: float

    def of(self, base: int, contribution: int, classes: int, steps: int) -> float:
        """Seconds that the baseline and every rung of the ladder take."""
        row_count = base + sum(base + share * contribution for share in LADDER)
        return self.seconds * row_count * classes * min(steps, USUAL_STEPS)


def measure_fit_pace(rows: Rows, budget: Budget) -> Pace:
    """Return the pace of a few steps on a few of the rows."""
    few = nested(rows.base, min(1.0, WARM_ROWS / len(rows.base)))
    warm_budget = replace(budget, steps=WARM_STEPS, deadline=None)
    fit = fits.fitter_of(rows.features).fit
    # The first loads libraries.
    fit(rows.features, few, warm_budget, passes=1)
    began = time.perf_counter()
    fit(rows.features, few, warm_budget, passes=WARM_STEPS)
    spent = time.perf_counter() - began
    return Pace(spent / (len(few) * _classes(rows, few) * WARM_STEPS))


def cut_to_seconds(
    rows: Rows, pace: Pace, budget: Budget, seconds: float
) -> tuple[Rows, tuple[str, ...]]:
    """Return `rows` whose estimate fits `seconds` at `pace`, and what was cut in words.

    The contribution is cut first, to a tenth at most, then the base rows.
    """
    classes = _classes(rows, (*rows.base, *rows.given))

    def fits(base: int, contribution: int) -> bool:
        return pace.of(base, contribution, classes, budget.steps) <= seconds

    base, contribution = len(rows.base), len(rows.given)
    least = min(contribution, max(FEWEST, contribution // 10))
    while contribution > least and not fits(base, contribution):
        contribution = max(least, contribution * 4 // 5)
    while base > FEWEST and not fits(base, contribution):
        base = max(FEWEST, base * 4 // 5)
    if (base, contribution) == (len(rows.base), len(rows.given)):
        return rows, ()
    notes = [
        f"time_box: {count:,} of {whole:,} {what} rows are learnt from"
        for count, whole, what in (
            (contribution, len(rows.given), "contributed"),
            (base, len(rows.base), "base"),
        )
        if count < whole
    ]
    return rows.only(base, contribution), tuple(notes)


def _classes(rows: Rows, samples: Sequence[Sample]) -> int:
    """Classes that `samples` of `rows` are told apart in; a number is as one."""
    return 1 if rows.shape.is_of_numbers else len({sample.label for sample in samples})
