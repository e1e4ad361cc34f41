"""A paired difference over the benchmark, and its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from sem.eval.stats import clusters


@dataclass(frozen=True)
class PairedGain:
    """Candidate less baseline, from -1 to 1, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int  # benchmark rows

    @property
    def width(self) -> float:
        return self.high - self.low

    def bounded(self) -> "PairedGain":
        """Itself within -1 and 1."""
        return PairedGain(
            *(max(-1.0, min(1.0, v)) for v in (self.mean, self.low, self.high)), self.n
        )


def measure_paired_gain(
    before: Sequence[float], after: Sequence[float], units: Sequence[str] | None
) -> PairedGain:
    """Return the mean of `after` - `before`, each within -1 and 1, with its interval over
    units.
    """
    differences = [float(b - a) for a, b in zip(before, after, strict=True)]
    names = list(units) if units else [str(number) for number in range(len(differences))]
    sums = clusters.sum_by_cluster(differences, names)
    low, high = clusters.confidence_bounds(sums)
    return PairedGain(float(sums.mean), float(low), float(high), len(differences))
