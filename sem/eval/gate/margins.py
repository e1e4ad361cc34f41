"""Paired differences against a rule: shown, refuted, or how much more it would take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sem.eval.gate.policy import DifferenceRule, Policy
from sem.eval.stats import clusters, paired_stats, planning
from sem.eval.stats.clusters import DomainDifferences
from sem.eval.stats.paired_stats import PairedDifferences

PASS, FAIL, INSUFFICIENT = "PASS", "FAIL", "INSUFFICIENT"
WARN, NOT_TESTABLE = "WARN", "not testable"


@dataclass(frozen=True)
class MissingEvidence:
    """What is missing; None where more of it would not help."""

    more_domains: int | None = None
    more_rows: int | None = None

    def __str__(self) -> str:
        if self.more_domains is not None:
            return f"about {self.more_domains:,} more domains ({self.more_rows:,} rows)"
        return "" if self.more_rows is None else f"{self.more_rows:,} more rows"


@dataclass(frozen=True)
class GateCheck:
    """One line of the gate: what was found, what was wanted, and what follows."""

    name: str
    verdict: str
    found: str
    wanted: str
    why: str = ""
    need: MissingEvidence = MissingEvidence()
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "need": vars(self.need)}


@dataclass(frozen=True)
class FamilyRule:
    """What a family of differences is held against."""

    label: str
    rule: DifferenceRule
    policy: Policy
    # a member with an unscored pair decides nothing.
    is_whole: bool = True
    # Whether a gain of a member may be claimed.
    may_gain: bool = True


def check_difference_family(
    members: Mapping[str, PairedDifferences], bar: FamilyRule
) -> list[GateCheck]:
    """Return one check for each of `members`, levels adjusted by Holm over all of them.

    Passing, failing and improving are three claims, each held over the family at `side`.
    """
    rule = bar.rule
    claims = {
        "p_pass": paired_stats.adjust_p_values(
            {n: _p(m, rule.target) for n, m in members.items()}
        ),
        "p_fail": paired_stats.adjust_p_values(
            {n: _p(m, rule.fails_below, False) for n, m in members.items()}
        ),
        "p_gain": paired_stats.adjust_p_values({n: _p(m, 0.0) for n, m in members.items()}),
    }
    checks = []
    for name, pairs in sorted(members.items()):
        p = {claim: adjusted[name] for claim, adjusted in claims.items()}
        checks.append(_check(f"{bar.label} {name}".strip(), pairs, bar, p, len(members)))
    return checks


def _p(pairs: PairedDifferences, target: float, above: bool = True) -> float:
    if not pairs.found.count:
        return 1.0
    test = clusters.p_above if above else clusters.p_below
    return float(test(pairs.found, target))


def _check(
    name: str, pairs: PairedDifferences, bar: FamilyRule, p: dict[str, float], members: int
) -> GateCheck:
    change = paired_stats.mean_difference(pairs, draws=0)
    verdict, why = _judged(pairs, bar, p)
    is_open = verdict == INSUFFICIENT and not (bar.is_whole and pairs.unscored)
    facts = {
        **change.as_json(),
        **p,
        "gains": pairs.gains,
        "losses": pairs.losses,
        "mcnemar_p": paired_stats.mcnemar_p_value(pairs.gains, pairs.losses),
        "icc": clusters.intraclass_correlation(pairs.found) if pairs.found.count else None,
        "detectable_points": _detectable(pairs, bar),
        "improved": bar.may_gain and p["p_gain"] <= bar.policy.side,
    }
    return GateCheck(
        name=name,
        verdict=verdict,
        found=f"{change.points:+.1f} [{change.low:+.1f}, {change.high:+.1f}]",
        wanted=_wanted(bar.rule),
        why=why,
        need=_needed(pairs, bar, bar.policy.side / members) if is_open else MissingEvidence(),
        facts=facts,
    )


def _detectable(pairs: PairedDifferences, bar: FamilyRule) -> float | None:
    """Return the true difference, in points, that data like these show with the planned power."""
    if pairs.found.domains < 2:
        return None
    policy = bar.policy
    return round(100 * planning.detectable_with(pairs.found, policy.side, policy.power), 2)


def _wanted(rule: DifferenceRule) -> str:
    bound = f"> {rule.target * 100:+.1f} points"
    return bound if rule.by == "interval" else f"{bound}, estimate"


def _judged(pairs: PairedDifferences, bar: FamilyRule, p: dict[str, float]) -> tuple[str, str]:
    """Return the verdict on one difference, and the reason where it is not a plain PASS."""
    rule, policy, differences = bar.rule, bar.policy, pairs.found
    if not differences.count:
        return INSUFFICIENT, f"unscored in {pairs.unscored} rows" if pairs.unscored else "no row"
    if bar.is_whole and pairs.unscored:
        return INSUFFICIENT, f"unscored in {pairs.unscored} rows"
    if rule.by == "point" and float(differences.mean) > rule.target:
        return PASS, ""
    if differences.domains < policy.min_domains:
        return INSUFFICIENT, f"{differences.domains} of at least {policy.min_domains} domains"
    if rule.by == "interval" and p["p_pass"] <= policy.side:
        return PASS, ""
    if p["p_fail"] > policy.side:
        return INSUFFICIENT, ""
    return _refuted(rule, float(differences.mean))


def _refuted(rule: DifferenceRule, mean: float) -> tuple[str, str]:
    if rule.test == "superiority":
        return FAIL, f"a gain of {rule.worth_points:g} points is ruled out"
    # A loss that is shown, but by estimate no larger than the tolerated one, decides nothing.
    if mean > rule.target:
        return INSUFFICIENT, "a loss is shown, by estimate inside the margin"
    return FAIL, "a loss is shown"


def _needed(pairs: PairedDifferences, bar: FamilyRule, side: float) -> MissingEvidence:
    """Domains and rows still missing, if the truth is what one plans for, else as estimated."""
    differences, least = pairs.found, bar.policy.min_domains
    if differences.domains < 2:
        return MissingEvidence()
    total = _total(differences, bar, bar.rule.planned, side)
    if total is not None and total <= max(differences.domains, least):
        as_estimated = _total(differences, bar, float(differences.mean) - bar.rule.target, side)
        total = least if as_estimated is None and differences.domains < least else as_estimated
    if total is None:
        return MissingEvidence()
    more = max(1, total - differences.domains, least - differences.domains)
    return MissingEvidence(more, math.ceil(more * differences.count / differences.domains))


def _total(
    differences: DomainDifferences, bar: FamilyRule, distance: float, side: float
) -> int | None:
    """Domains like those of `differences` that show `distance`; None when no number does."""
    total = planning.estimate_needed_domains(differences, distance, side, bar.policy.power)
    if total is None or bar.rule.test == "superiority" or not bool(differences.is_few):
        return total
    failures = round(float(differences.losses.sum()) * differences.effective / differences.count)
    rows = planning.rows_to_certify(failures, 1 - distance, side)
    return (
        None
        if rows is None
        else max(total, math.ceil(rows / differences.effective * differences.domains))
    )
