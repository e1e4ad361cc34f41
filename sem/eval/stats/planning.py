"""How many rows and domains a claim needs, before and after the data are in.

Levels are one-sided: 0.025 is the lower end of a 95 % interval. Shares and margins are fractions,
0.05 is five points.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sem.core.errors import SemError
from sem.eval.stats import clusters
from sem.eval.stats.clusters import DomainDifferences

# Failures among the rows that certify a rate: what is planned for.
FAILURES = (0, 1, 3)
SIDE = 0.025
POWER = 0.8
# Rows or domains beyond which "more data" is not an answer.
MOST = 10_000_000


@dataclass(frozen=True)
class Assumptions:
    """What a plan supposes of data that are not there yet; shares are fractions."""

    margin: float
    discordance: float
    rows_per_domain: float
    icc: float
    rate: float

    def __post_init__(self) -> None:
        shares = {"margin": self.margin, "differ": self.discordance, "at-least": self.rate}
        for name, share in shares.items():
            if not 0 < share < 1:
                raise SemError(
                    f"--{name} {100 * share:g}", "give a percentage above 0 and below 100"
                )
        if not 0 <= self.icc <= 1:
            raise SemError(f"--icc {self.icc:g}", "give a number from 0 to 1")
        if not self.rows_per_domain >= 1:
            raise SemError(f"--rows-per-domain {self.rows_per_domain:g}", "give 1 or more")


def plan_rows(assumed: Assumptions) -> list[tuple[str, str, str]]:
    """Return claim, rows and domains it needs, one a line, as a person reads them."""
    points = f"{100 * assumed.margin:g} points"
    alone = pairs_needed(assumed.margin, assumed.discordance)
    domains = domains_needed(
        assumed.margin, assumed.discordance, assumed.rows_per_domain, assumed.icc
    )
    count = None if domains is None else math.ceil(domains * assumed.rows_per_domain)
    lines = [
        (f"{points} apart, every row of a domain of its own", f"{alone:,}", f"{alone:,}"),
        (
            f"{points} apart, {assumed.rows_per_domain:g} rows a domain (icc {assumed.icc:g})",
            _counted(count),
            _counted(domains),
        ),
    ]
    for failures in FAILURES:
        name = f"at least {100 * assumed.rate:g} %, with {failures} wrong"
        lines.append((name, _counted(rows_to_certify(failures, assumed.rate)), "-"))
    return lines


def test_part_rows(domains: Sequence[str], assumed: Assumptions) -> list[tuple[str, str]]:
    """Return what a test part whose rows are of `domains` is worth and can show."""
    count, groups = len(domains), len(set(domains))
    if not count:
        return [("rows", "0: nothing can be shown")]
    worth = effective_rows(count, count / groups, assumed.icc)
    points = 100 * detectable_difference(worth, assumed.discordance)
    return [
        ("rows", f"{count:,}"),
        ("domains", f"{groups:,}"),
        (f"independent rows it is worth (icc {assumed.icc:g})", f"{worth:,.0f}"),
        ("smallest difference it shows", f"{points:.1f} points"),
    ]


def _counted(count: int | None) -> str:
    return f"more than {MOST:,}" if count is None else f"{count:,}"


def rows_to_certify(failures: int, share: float = 0.99, side: float = 0.05) -> int | None:
    """Fewest rows with `failures` among them whose Clopper-Pearson lower bound reaches `share`.

    299, 473 and 773 rows certify 99 % with 0, 1 and 3 failures. None beyond MOST.
    """
    from scipy import special

    if not share < 1:
        return None
    return _first(failures + 1, lambda rows: special.bdtr(failures, rows, 1 - share) <= side)


def pairs_needed(
    distance: float, discordance: float, side: float = SIDE, power: float = POWER
) -> int:
    """Independent pairs that show a difference `distance` away from its margin.

    `discordance` is the share of pairs on which the runs differ. A margin of 5 points and no true
    difference needs 157, 314 and 628 pairs at a discordance of .05, .10 and .20 (normal
    approximation; Connor 1987, with the variance at no difference).
    """
    return math.ceil((_quantiles(side, power) / distance) ** 2 * discordance)


def detectable_difference(
    pairs: float, discordance: float, side: float = SIDE, power: float = POWER
) -> float:
    """Return the smallest true difference that so many independent `pairs` show."""
    return _quantiles(side, power) * math.sqrt(discordance / pairs)


def detectable_with(
    differences: DomainDifferences, side: float = SIDE, power: float = POWER
) -> float:
    """Return the smallest true difference that data like `differences` show; at most 1."""
    from scipy import special

    quantiles = special.stdtrit(differences.freedom, [1 - side, power])
    return min(1.0, float(quantiles.sum() * clusters.jackknife_error(differences)))


def design_effect(rows_per_domain: float, icc: float) -> float:
    """Return how many times more rows are needed when they come in domains (Kish 1965)."""
    return 1 + (rows_per_domain - 1) * icc


def effective_rows(rows: float, rows_per_domain: float, icc: float) -> float:
    """Independent rows that `rows` are worth: 500 in domains of 50 with `icc` .1 are worth 85."""
    return rows / design_effect(rows_per_domain, icc)


def domains_needed(
    distance: float,
    discordance: float,
    rows_per_domain: float,
    icc: float,
    side: float = SIDE,
    power: float = POWER,
) -> int | None:
    """Fewest domains that show a difference `distance` away from its margin; None beyond MOST."""
    deff = design_effect(rows_per_domain, icc)
    # Error of a mean over one domain.
    unit_error = math.sqrt(discordance * deff / rows_per_domain)
    return _fewest(distance, unit_error, 1.0, side, power)


def estimate_needed_domains(
    differences: DomainDifferences, distance: float, side: float, power: float
) -> int | None:
    """Domains like those of `differences` that would show `distance`; None when nothing helps."""
    if differences.domains < 2 or not distance > 0:
        return None
    unit_error = float(clusters.jackknife_error(differences)) * math.sqrt(differences.domains)
    return _fewest(
        distance, unit_error, (differences.freedom + 1) / differences.domains, side, power
    )


def _fewest(
    distance: float, unit_error: float, weight: float, side: float, power: float
) -> int | None:
    """Fewest domains of error `unit_error` / √domains whose t test has `power` at `distance`."""
    return _first(2, lambda count: _power(count, distance, unit_error, weight, side) >= power)


def _first(least: int, is_enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number from `least` that `is_enough`, as all larger ones are.

    None beyond MOST.
    """
    low, high = least - 1, least
    while not is_enough(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _power(domains: int, distance: float, unit_error: float, weight: float, side: float) -> float:
    """Power of the one-sided t test; `weight` is effective domains per domain."""
    from scipy import special

    freedom = max(domains * weight - 1, 0.5)
    if unit_error == 0:
        return 1.0
    shift = distance * math.sqrt(domains) / unit_error
    limit = -float(special.stdtrit(freedom, side))
    # nct is slow and unstable far out, where the answer is 1 or the normal one.
    if freedom > 200:
        return float(special.ndtr(shift - limit))
    return 1 - float(special.nctdtr(freedom, min(shift, 30.0), limit))


def _quantiles(side: float, power: float) -> float:
    from scipy import special

    return float(special.ndtri(1 - side) + special.ndtri(power))
