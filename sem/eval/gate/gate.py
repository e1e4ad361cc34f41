"""The promotion decision: PASS, FAIL or INSUFFICIENT, from evidence and a policy alone.

One FAIL fails, else one INSUFFICIENT leaves it open, else it passes. What cannot be tested or is
only a warning is said and decides nothing. No file is read here.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sem.eval.gate import margins
from sem.eval.gate.margins import (
    FAIL,
    INSUFFICIENT,
    NOT_TESTABLE,
    PASS,
    WARN,
    FamilyRule,
    GateCheck,
    MissingEvidence,
)
from sem.eval.gate.policy import DifferenceRule, Limit, Policy, Validity
from sem.eval.scoring.scoring import Score
from sem.eval.stats import paired_stats, planning
from sem.eval.stats.paired_stats import PairedDifferences

EXIT = {PASS: 0, FAIL: 1, INSUFFICIENT: 3}


@dataclass(frozen=True)
class Evidence:
    """Everything a decision rests on, read and scored."""

    before: Sequence[Score]
    after: Sequence[Score]
    critical: frozenset[str]  # `task.field`
    # Domains, ids, groups in train too.
    shared: dict[str, int] = field(default_factory=dict)
    # Snapshots of run or split that a takedown withdrew.
    withdrawn: tuple[str, ...] = ()
    # Faults of the run's package; None: there is none.
    package: tuple[str, ...] | None = None
    # Gates on this split file, this one included.
    uses: int = 1
    # None: no judge had a say.
    is_judge_calibrated: bool | None = None
    # Scores by rule of what needs no training, and of the run on their scale.
    rivals: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    by_rule: Sequence[Score] | None = None
    # Answers of the model being replaced.
    strong: Sequence[Score] | None = None
    # Examples whose reference is not its output.
    independent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GateDecision:
    """The decision and the checks it follows from."""

    checks: tuple[GateCheck, ...]

    @property
    def word(self) -> str:
        verdicts = {check.verdict for check in self.checks}
        if FAIL in verdicts:
            return FAIL
        # Without a single check nothing is shown.
        return INSUFFICIENT if INSUFFICIENT in verdicts or not verdicts else PASS

    @property
    def exit_code(self) -> int:
        return EXIT[self.word]

    @property
    def more_rows(self) -> int | None:
        """Return the most rows an undecided check still needs; None where none says how many."""
        return max((c.need.more_rows for c in self.checks if c.need.more_rows), default=None)

    @property
    def more_domains(self) -> int | None:
        return max((c.need.more_domains for c in self.checks if c.need.more_domains), default=None)

    def sentence(self) -> str:
        """Return the verdict in one line, with what decided it."""
        deciding = [check for check in self.checks if check.verdict == self.word]
        names = ", ".join(check.name for check in deciding[:4])
        names += f" and {len(deciding) - 4} more" if len(deciding) > 4 else ""
        if self.word == PASS:
            return f"PASS: {len(deciding)} checks hold"
        if self.word == FAIL:
            return f"FAIL: {names}"
        need = MissingEvidence(self.more_domains, self.more_rows)
        return f"INSUFFICIENT: {names or 'nothing was checked'}" + (f"; {need}" * bool(str(need)))


def decide_gate(evidence: Evidence, policy: Policy) -> GateDecision:
    """Return the verdict that `policy` gives on `evidence`."""
    checks = [
        *check_preconditions(evidence, policy),
        check_valid_share(evidence.after, policy.validity),
        *check_clean_shares(evidence.after, policy),
        *gate_differences(evidence, policy),
        *against_rivals(evidence, policy),
        *against_strong(evidence, policy),
        *check_costs(evidence, policy),
    ]
    return GateDecision(tuple(checks))


def refuse_gate(withdrawn: tuple[str, ...]) -> GateDecision:
    """Return the verdict on data that were taken down: they are not read again."""
    return GateDecision((_takedown(withdrawn),))


def check_preconditions(evidence: Evidence, policy: Policy) -> Iterator[GateCheck]:
    """Yield what must hold before any difference counts."""
    if policy.takedown == "required":
        yield _takedown(evidence.withdrawn)
    if policy.shared_domains is not None:
        yield from _leakage(evidence.shared, policy.shared_domains)
    yield _complete(evidence)
    if policy.parity == "required":
        yield _parity(evidence.package)
    if evidence.is_judge_calibrated is not None:
        fine = evidence.is_judge_calibrated or policy.judge == "any"
        state = "calibrated" if evidence.is_judge_calibrated else "not calibrated"
        yield GateCheck("judge", PASS if fine else INSUFFICIENT, state, policy.judge)
    yield _worn(evidence.uses, policy)


def _takedown(withdrawn: tuple[str, ...]) -> GateCheck:
    state = f"withdrawn: {', '.join(withdrawn)}" if withdrawn else "none withdrawn"
    return GateCheck("takedown", FAIL if withdrawn else PASS, state, "no withdrawn snapshot")


def _leakage(shared: dict[str, int], domains: int) -> Iterator[GateCheck]:
    for kind in sorted(shared):
        allowed = domains if kind == "domains" else 0
        verdict = FAIL if shared[kind] > allowed else PASS
        yield GateCheck(
            f"leakage: {kind}", verdict, str(shared[kind]), f"{allowed} shared with train"
        )


def _complete(evidence: Evidence) -> GateCheck:
    """Return every example answered by both: a silent baseline would make any run look good."""
    runs = {"baseline": evidence.before, "run": evidence.after}
    missing = {name: sum(s.finish == "missing" for s in runs[name]) for name in runs}
    unpaired = len({s.id for s in evidence.before} ^ {s.id for s in evidence.after})
    faults = [f"{count} not answered by the {name}" for name, count in missing.items() if count]
    faults += [f"{unpaired} unpaired"] if unpaired else []
    faults += [] if evidence.after else ["no example"]
    verdict = INSUFFICIENT if faults else PASS
    state = ", ".join(faults) or f"{len(evidence.after)} pairs"
    return GateCheck("answers", verdict, state, "every example, by both")


def _parity(package: tuple[str, ...] | None) -> GateCheck:
    if package is None:
        return GateCheck(
            "package", INSUFFICIENT, "none", "whole", "make it with `fab package.export`"
        )
    state = package[0] if package else "whole"
    return GateCheck("package", FAIL if package else PASS, state, "whole")


def _worn(uses: int, policy: Policy) -> GateCheck:
    is_worn = uses > policy.worn.after
    verdict = {"warn": WARN, "insufficient": INSUFFICIENT, "fail": FAIL}[policy.worn.then]
    why = "worn: choosing runs by it has fitted it; cut a new snapshot" if is_worn else ""
    limit = f"at most {policy.worn.after} gates"
    return GateCheck("test set", verdict if is_worn else PASS, f"gate {uses}", limit, why)


def check_valid_share(scores: Sequence[Score], rule: Validity) -> GateCheck:
    """Return the share of valid answers, by its exact lower bound or by the share alone."""
    hits, rows = sum(bool(getattr(s, rule.measure)) for s in scores), len(scores)
    # Two-sided with the one-sided level on each side.
    low, high = paired_stats.clopper_pearson(hits, rows, 2 * rule.confidence - 1)
    share = hits / rows if rows else 0.0
    facts = {"hits": hits, "rows": rows, "low": low, "high": high}
    estimate = f"{share:.2%} [{low:.2%}, {high:.2%}]"
    if rule.by == "point":
        verdict = PASS if share >= rule.at_least else FAIL
        bar = f">= {rule.at_least:.2%}"
        return GateCheck(rule.measure, verdict, estimate, bar, facts=facts)
    bar = f"lower bound >= {rule.at_least:.2%}"
    if low >= rule.at_least or high < rule.at_least:
        verdict = PASS if low >= rule.at_least else FAIL
        return GateCheck(rule.measure, verdict, estimate, bar, facts=facts)
    total = planning.rows_to_certify(rows - hits, rule.at_least, 1 - rule.confidence)
    need = MissingEvidence(more_rows=None if total is None else total - rows)
    why = "rows without a further failure"
    return GateCheck(rule.measure, INSUFFICIENT, estimate, bar, why, need, facts)


def check_clean_shares(scores: Sequence[Score], policy: Policy) -> Iterator[GateCheck]:
    """Yield shares of answers that fit the schema and say nothing beyond input and reference."""
    for name, least in vars(policy.clean).items():
        if least is None or name == policy.validity.measure:
            continue
        hits, rows = sum(bool(getattr(score, name)) for score in scores), len(scores)
        low, high = paired_stats.clopper_pearson(hits, rows, 2 * policy.validity.confidence - 1)
        share = hits / rows if rows else 0.0
        verdict, why = PASS, ""
        if share < least:
            verdict = FAIL if high < least else INSUFFICIENT
            why = "" if verdict == FAIL else "too few rows to tell"
        estimate = f"{share:.2%} [{low:.2%}, {high:.2%}]"
        facts = {"hits": hits, "rows": rows, "low": low, "high": high}
        yield GateCheck(name, verdict, estimate, f">= {least:.2%}", why, facts=facts)


def gate_differences(evidence: Evidence, policy: Policy) -> list[GateCheck]:
    """Run minus baseline: overall, on each critical slot (Holm), on each other slot.

    A slot's gain is claimed only after the overall one (fixed sequence), so that all claims of
    an improvement together err as rarely as one.
    """
    measure = policy.overall.measure
    overall = paired_stats.pair_scores(
        evidence.before, evidence.after, lambda score: getattr(score, measure)
    )
    slots = paired_stats.slot_pairs(evidence.before, evidence.after)
    critical = {name: slots.get(name, _no_pairs()) for name in evidence.critical}
    others = {name: pairs for name, pairs in slots.items() if name not in evidence.critical}
    (first,) = margins.check_difference_family(
        {measure: overall}, FamilyRule("", policy.overall, policy)
    )
    gained = bool(first.facts["improved"])
    rules = (policy.critical, policy.non_critical)
    return [
        first,
        *margins.check_difference_family(
            critical, FamilyRule("critical", rules[0], policy, True, gained)
        ),
        *margins.check_difference_family(
            others, FamilyRule("slot", rules[1], policy, False, gained)
        ),
    ]


def _no_pairs() -> PairedDifferences:
    return paired_stats.pair_scores([], [], lambda _: None)


def against_rivals(evidence: Evidence, policy: Policy) -> list[GateCheck]:
    """Better than the better of what needs no training, by the rule of the overall measure."""
    measure = policy.overall.measure
    best = paired_stats.best_of(evidence.rivals, measure)
    if policy.rivals == "off" or best is None:
        return []
    after = evidence.after if evidence.by_rule is None else evidence.by_rule
    pairs = paired_stats.pair_scores(
        evidence.rivals[best], after, lambda score: getattr(score, measure)
    )
    return margins.check_difference_family(
        {best: pairs}, FamilyRule("against", policy.overall, policy)
    )


def against_strong(evidence: Evidence, policy: Policy) -> list[GateCheck]:
    """Return at least the strong model on critical slots, where references are not its own
    output.
    """
    if policy.strong.test == "off" or not evidence.critical:
        return []
    bar = f"> -{policy.strong.margin_points:.1f} points"
    for condition, why in (
        (evidence.independent, "no reference is marked independent of it (meta.reference_source)"),
        (evidence.strong, "no answers of the strong model"),
    ):
        if not condition:
            return [GateCheck("against strong", NOT_TESTABLE, "-", bar, why)]
    strong, after = (
        [score for score in scores if score.id in evidence.independent]
        for scores in (evidence.strong or (), evidence.after)
    )
    slots = paired_stats.slot_pairs(strong, after)
    critical = {name: slots.get(name, _no_pairs()) for name in evidence.critical}
    rule = DifferenceRule("non_inferiority", policy.strong.margin_points)
    return margins.check_difference_family(critical, FamilyRule("against strong", rule, policy))


def check_costs(evidence: Evidence, policy: Policy) -> Iterator[GateCheck]:
    """Latency and tokens, as measured; limits that ask nothing are left out."""
    kinds: dict[str, tuple[Limit, Callable[[Sequence[Score]], float]]] = {
        "latency ms p95": (policy.latency_ms, _latency_p95),
        "tokens, mean": (policy.tokens, _tokens_mean),
    }
    for name, (limit, measure) in kinds.items():
        was, now = measure(evidence.before), measure(evidence.after)
        facts: dict[str, Any] = {"baseline": was, "run": now}
        if limit.at_most is not None:
            verdict = PASS if now <= limit.at_most else FAIL
            yield GateCheck(name, verdict, f"{now:,.0f}", f"<= {limit.at_most:g}", facts=facts)
        if limit.ratio is not None:
            verdict = PASS if now <= limit.ratio * was else FAIL
            ratio_text = f"{now:,.0f} of {was:,.0f}"
            yield GateCheck(
                f"{name}, ratio", verdict, ratio_text, f"<= {limit.ratio:g} x", facts=facts
            )


def _latency_p95(scores: Sequence[Score]) -> float:
    ordered = sorted(score.latency_ms for score in scores)
    return float(ordered[math.ceil(0.95 * len(ordered)) - 1]) if ordered else 0.0


def _tokens_mean(scores: Sequence[Score]) -> float:
    return sum(s.tokens_in + s.tokens_out for s in scores) / len(scores) if scores else 0.0
