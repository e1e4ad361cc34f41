"""What the gain grows to when all rows of a contribution are learnt from, not a sample of them.

The rungs of the ladder are read as a power law, gain(n) = B·(1 - (1 + n/m)^-c), which is
a - b·n^-c through the origin: no rows, no gain. Shapes (m, c) on a grid weigh as much as they fit
the rungs; the last rung is scaled by their mean, and their spread joins its interval. All shapes
are concave, so that the gain never grows faster than the rows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sem.preview.stats.paired_gain import Gain

HALF = 1.959963984540054
EXPONENTS = (0.1, 0.25, 0.5, 1.0, 2.0)
# m, in rows of the base.
ORIGINS = (0.03, 0.1, 0.3, 1.0, 3.0)
# Of a rung's own error: two rows of thousands are no certainty.
LEAST = 1e-4


@dataclass(frozen=True)
class Step:
    """One rung of the ladder."""

    rows: int
    gain: Gain


@dataclass(frozen=True)
class Reach:
    """The factor by which the last rung's gain grows, and how far shapes disagree on it."""

    factor: float
    spread: float


def grown(steps: Sequence[Step], base: int, total: int) -> Gain:
    """Return the gain at `total` contributed rows over `base` rows, by `steps`.

    The last one's when it has all.

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
    return Gain(mean, mean - low, mean + high, last.gain.n).bounded()


def extrapolate_gain(steps: Sequence[Step], base: int, total: int) -> Reach:
    """Return how much more `total` rows give than the rows of the last of `steps`."""
    fits = [
        (_misfit(steps, shape), shape(total) / shape(steps[-1].rows)) for shape in _shapes(base)
    ]
    least = min(misfit for misfit, _ in fits)
    weights = [math.exp((least - misfit) / 2) for misfit, _ in fits]
    total_weight = math.fsum(weights)
    factor = math.fsum(w * f for w, (_, f) in zip(weights, fits, strict=True)) / total_weight
    square = math.fsum(w * (f - factor) ** 2 for w, (_, f) in zip(weights, fits, strict=True))
    return Reach(factor, math.sqrt(square / total_weight))


class _Shape:
    """1 - (1 + n/m)^-c."""

    def __init__(self, m: float, c: float) -> None:
        self.m, self.c = m, c

    def __call__(self, rows: int) -> float:
        return -math.expm1(-self.c * math.log1p(rows / self.m))


def _shapes(base: int) -> Iterator[_Shape]:
    for origin in ORIGINS:
        for exponent in EXPONENTS:
            yield _Shape(max(1.0, base * origin), exponent)


def _misfit(steps: Sequence[Step], shape: _Shape) -> float:
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
