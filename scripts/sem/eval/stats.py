"""Paired difference of two runs, with an interval that respects domains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sem.eval.metrics import Score


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences in percentage points, with a 95 % interval."""

    points: float
    low: float
    high: float
    pairs: int
    domains: int

    @property
    def is_shown(self) -> bool:
        """Whether the interval excludes 0 on the side of a gain; needs at least 2 domains."""
        return self.low > 0 and self.domains > 1

    def sentence(self) -> str:
        """The verdict in the plan's words."""
        interval = f"[{self.low:+.1f}, {self.high:+.1f}]"
        if self.is_shown:
            return f"Accuracy improved by {self.points:.1f} points {interval}"
        return f"no improvement shown: {self.points:+.1f} points {interval}"

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "shown": self.is_shown}


def paired(
    before: Sequence[Score], after: Sequence[Score], measure: str, draws: int, seed: int
) -> Difference:
    """AFTER minus BEFORE in MEASURE (an attribute of Score), paired by example id.

    Percentile bootstrap over domains (Efron & Tibshirani 1993, ch. 13): pages of one shop share
    a template, so shops, not pages, are drawn. Points are percent.
    """
    import numpy as np

    was = {score.id: float(getattr(score, measure)) for score in before}
    both = [score for score in after if score.id in was]
    if not both:
        return Difference(0.0, 0.0, 0.0, 0, 0)
    names = sorted({score.domain for score in both})
    place = {name: number for number, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for score in both:
        sums[place[score.domain]] += float(getattr(score, measure)) - was[score.id]
        counts[place[score.domain]] += 1
    dice = np.random.default_rng(seed)
    drawn = dice.integers(0, len(names), size=(draws, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5]) * 100
    points = float(sums.sum() / counts.sum() * 100)
    return Difference(
        round(points, 2), round(float(low), 2), round(float(high), 2), len(both), len(names)
    )
