"""Means of paired differences over rows that come in domains, with intervals that hold.

Pages of one shop share a template, so domains, not pages, are what was drawn. The interval is a
t interval on the delete-one-domain jackknife error (CR3; MacKinnon, Nielsen & Webb 2023) with
N²/Σn² - 1 degrees of freedom, the effective number of domains less one. It was chosen by
simulation (benchmarks/proof/simulations.py): with 14 domains the percentile bootstrap covers
about 90 % where 95 % is said, this covers 94 to 96 %. Where fewer than five domains moved at
all, normal theory knows nothing ("0 of 30 rows changed" is not "± 0"), and the interval is
widened to what exact binomial bounds on gains and losses allow.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Moved domains below which exact bounds take over.
FEW = 5
# Share of variance between domains, where the data cannot tell.
ICC = 0.1


@dataclass(frozen=True)
class DomainDifferences:
    """Differences added up by domain; arrays end in (domains,), leading axes are replications."""

    # Of the differences, each from -1 to 1.
    sums: "np.ndarray[Any, Any]"
    # Rows with a difference above 0.
    gains: "np.ndarray[Any, Any]"
    # Rows with a difference below 0.
    losses: "np.ndarray[Any, Any]"
    rows: "np.ndarray[Any, Any]"  # shape (domains,)
    # Every difference is -1, 0 or 1.
    binary: bool = True

    @property
    def domains(self) -> int:
        return len(self.rows)

    @property
    def count(self) -> int:
        """Return rows of all domains."""
        return int(self.rows.sum())

    @property
    def mean(self) -> Any:
        """Return the mean difference over rows."""
        return self.sums.sum(-1) / self.rows.sum()

    @property
    def effective(self) -> float:
        """Return how many independent rows these are worth at an intraclass correlation of ICC."""
        own = float((self.rows**2).sum()) / self.count
        return self.count / (1 + (own - 1) * ICC)

    @property
    def freedom(self) -> float:
        """Degrees of freedom: effective number of domains less one."""
        return float(self.rows.sum()) ** 2 / float((self.rows**2).sum()) - 1

    @property
    def is_few(self) -> Any:
        """Return whether too few domains moved for normal theory."""
        return ((self.gains + self.losses) > 0).sum(-1) < FEW


def sum_by_cluster(differences: list[float], domains: list[str]) -> DomainDifferences:
    """Return `differences`, one a row, added up by the domain of each row.

    Domains in sorted order.
    """
    import numpy as np

    names = sorted(set(domains))
    place = {name: number for number, name in enumerate(names)}
    at = [place[name] for name in domains]
    values = np.asarray(differences, float)

    def added(weights: Any) -> Any:
        return np.bincount(at, weights, len(names)) if at else np.zeros(0)

    return DomainDifferences(
        sums=added(values),
        gains=added(values > 0),
        losses=added(values < 0),
        rows=added(np.ones(len(values))),
        binary=bool(np.isin(values, (-1.0, 0.0, 1.0)).all()),
    )


def jackknife_error(differences: DomainDifferences) -> Any:
    """Standard error of the mean: jackknife that leaves out one domain at a time."""
    import numpy as np

    mean = np.asarray(differences.mean)[..., None]
    others = differences.sums.sum(-1)[..., None] - differences.sums
    without = others / (differences.count - differences.rows)
    share = (differences.domains - 1) / differences.domains
    return np.sqrt(share * ((without - mean) ** 2).sum(-1))


def confidence_bounds(differences: DomainDifferences, confidence: float = 0.95) -> tuple[Any, Any]:
    """Return the interval of the mean difference at `confidence`, within -1 and 1."""
    import numpy as np
    from scipy import special

    if differences.domains < 2:
        return np.full(differences.sums.shape[:-1], -1.0), np.full(
            differences.sums.shape[:-1], 1.0
        )
    side = (1 - confidence) / 2
    wide = -special.stdtrit(differences.freedom, side) * jackknife_error(differences)
    low, high = differences.mean - wide, differences.mean + wide
    if np.any(differences.is_few):
        floor, ceiling = _exact(differences, side)
        low = np.where(differences.is_few, np.minimum(low, floor), low)
        high = np.where(differences.is_few, np.maximum(high, ceiling), high)
    return np.clip(low, -1, 1), np.clip(high, -1, 1)


def p_above(differences: DomainDifferences, target: float) -> Any:
    """One-sided p-value of "the mean difference is at most `target`"."""
    import numpy as np
    from scipy import special

    if differences.domains < 2:
        return np.ones(differences.sums.shape[:-1])
    distance, wide = differences.mean - target, jackknife_error(differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(wide > 0, distance / wide, np.sign(distance) * np.inf)
    p = np.where(distance == 0, 0.5, special.stdtr(differences.freedom, -score))
    if not np.any(differences.is_few):
        return p
    return np.where(differences.is_few, np.maximum(p, _p_exact(differences, target)), p)


def p_below(differences: DomainDifferences, target: float) -> Any:
    """One-sided p-value of "the mean difference is at least `target`"."""
    return p_above(reverse_differences(differences), -target)


def reverse_differences(differences: DomainDifferences) -> DomainDifferences:
    """Return the same comparison the other way round."""
    return DomainDifferences(
        -differences.sums,
        differences.losses,
        differences.gains,
        differences.rows,
        differences.binary,
    )


def _exact(differences: DomainDifferences, side: Any) -> tuple[Any, Any]:
    """Clopper-Pearson bounds on gains less losses; a fraction gained counts 0, one lost 1."""
    share = differences.effective / differences.count
    gains, losses = differences.gains.sum(-1) * share, differences.losses.sum(-1) * share
    rows = differences.effective
    least_gain, most_gain = binomial_bounds(gains, rows, side)
    least_loss, most_loss = binomial_bounds(losses, rows, side)
    sure = float(differences.binary)
    return sure * least_gain - most_loss, most_gain - sure * least_loss


def _p_exact(differences: DomainDifferences, target: float) -> Any:
    """Return the level at which the exact lower bound meets `target`, by bisection."""
    import numpy as np

    low, high = np.zeros(differences.sums.shape[:-1]), np.ones(differences.sums.shape[:-1])
    for _ in range(40):
        middle = (low + high) / 2
        above = _exact(differences, middle)[0] > target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return high


def binomial_bounds(hits: Any, rows: float, side: Any) -> tuple[Any, Any]:
    """Clopper-Pearson bounds of a share, each missed with probability `side` at most.

    `hits` and `rows` may be fractions (effective counts): the beta quantiles are defined for them.
    """
    import numpy as np
    from scipy import special

    hits = np.asarray(hits, float)
    none, every = hits <= 0, hits >= rows
    low = special.betaincinv(np.where(none, 1, hits), rows - hits + 1, side)
    high = special.betainccinv(hits + 1, np.where(every, 1, rows - hits), side)
    return np.where(none, 0.0, low), np.where(every, 1.0, high)


def bootstrap_domains(
    differences: DomainDifferences, draws: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap over domains, 95 % (Efron & Tibshirani 1993, ch. 13); for the record.

    It is what most reports print; with few domains it is too narrow, see above.
    """
    import numpy as np

    dice = np.random.default_rng(seed)
    resamples = dice.integers(0, differences.domains, size=(draws, differences.domains))
    means = differences.sums[resamples].sum(1) / differences.rows[resamples].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def intraclass_correlation(differences: DomainDifferences) -> float | None:
    """Intraclass correlation of binary differences (ANOVA estimator), 0 to 1; None: unknown."""
    if (
        not differences.binary
        or differences.domains < 2
        or differences.count <= differences.domains
    ):
        return None
    mean = float(differences.mean)
    squares = float((differences.gains + differences.losses).sum())
    among = float((differences.sums**2 / differences.rows).sum()) - differences.count * mean**2
    within = squares - float((differences.sums**2 / differences.rows).sum())
    between_mean = among / (differences.domains - 1)
    within_mean = within / (differences.count - differences.domains)
    own = float((differences.rows**2).sum()) / differences.count
    size = (differences.count - own) / (differences.domains - 1)
    total = between_mean + (size - 1) * within_mean
    return min(1.0, max(0.0, (between_mean - within_mean) / total)) if total > 0 else None
