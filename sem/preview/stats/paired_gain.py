"""A paired difference over the benchmark, and its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from sem.eval.stats import clusters


@dataclass(frozen=True)
class Gain:
    """Candidate less baseline, from -1 to 1, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int  # benchmark rows

    @property
    def width(self) -> float:
        return self.high - self.low

    def bounded(self) -> "Gain":
        """Itself within -1 and 1."""
        return Gain(*(max(-1.0, min(1.0, v)) for v in (self.mean, self.low, self.high)), self.n)


def gained(before: Sequence[float], after: Sequence[float], units: Sequence[str] | None) -> Gain:
    """Return the mean of `after` - `before`, each within -1 and 1, with its interval over
    units.
    """
    differences = [float(b - a) for a, b in zip(before, after, strict=True)]
    names = list(units) if units else [str(number) for number in range(len(differences))]
    sums = clusters.sum_by_cluster(differences, names)
    low, high = clusters.bounds(sums)
    return Gain(float(sums.mean), float(low), float(high), len(differences))
