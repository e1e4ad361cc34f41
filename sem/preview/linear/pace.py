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

    def of(self, base: int, given: int, classes: int, steps: int) -> float:
        """Seconds that the baseline and every rung of the ladder take."""
        learnt = base + sum(base + share * given for share in LADDER)
        return self.seconds * learnt * classes * min(steps, USUAL_STEPS)


def measure_fit_pace(rows: Rows, budget: Budget) -> Pace:
    """Return the pace of a few steps on a few of the rows."""
    few = nested(rows.base, min(1.0, WARM_ROWS / len(rows.base)))
    wanted = replace(budget, steps=WARM_STEPS, deadline=None)
    fit = fits.fitter_of(rows.features).fit
    # The first loads libraries.
    fit(rows.features, few, wanted, passes=1)
    began = time.perf_counter()
    fit(rows.features, few, wanted, passes=WARM_STEPS)
    spent = time.perf_counter() - began
    return Pace(spent / (len(few) * _classes(rows, few) * WARM_STEPS))


def cut_to_seconds(
    rows: Rows, pace: Pace, budget: Budget, seconds: float
) -> tuple[Rows, tuple[str, ...]]:
    """Return `rows` whose estimate fits `seconds` at `pace`, and what was cut in words.

    The contribution is cut first, to a tenth at most, then the base rows.
    """
    classes = _classes(rows, (*rows.base, *rows.given))

    def fits(base: int, given: int) -> bool:
        return pace.of(base, given, classes, budget.steps) <= seconds

    base, given = len(rows.base), len(rows.given)
    least = min(given, max(FEWEST, given // 10))
    while given > least and not fits(base, given):
        given = max(least, given * 4 // 5)
    while base > FEWEST and not fits(base, given):
        base = max(FEWEST, base * 4 // 5)
    if (base, given) == (len(rows.base), len(rows.given)):
        return rows, ()
    told = [
        f"time_box: {kept:,} of {whole:,} {what} rows are learnt from"
        for kept, whole, what in (
            (given, len(rows.given), "contributed"),
            (base, len(rows.base), "base"),
        )
        if kept < whole
    ]
    return rows.only(base, given), tuple(told)


def _classes(rows: Rows, samples: Sequence[Sample]) -> int:
    """Classes that `samples` of `rows` are told apart in; a number is as one."""
    return 1 if rows.shape.is_of_numbers else len({sample.label for sample in samples})
