"""The gate: three verdicts, each for its reason, and the script's exits on a real project."""

import json
import math
from dataclasses import replace

import pytest
from paths import ROOT
from scores import column, one

from sem.core import settings
from sem.core.errors import SemError
from sem.eval.gate import gate, margins
from sem.eval.gate.gate import Evidence
from sem.eval.gate.margins import (
    FAIL,
    INSUFFICIENT,
    NOT_TESTABLE,
    PASS,
    WARN,
    FamilyRule,
    MissingEvidence,
)
from sem.eval.gate.policy import (
    CleanShares,
    DifferenceRule,
    Limit,
    Overall,
    Policy,
    Strong,
    Validity,
    WornSplit,
)
from sem.eval.scoring.proxies import Proxies
from sem.eval.stats import clusters, paired_stats, planning

TITLE = frozenset({"price.title"})
# 400 rows of 100 domains: enough for every default but the last failure.
BEFORE, AFTER = column("-+" * 200, 4), column("+" * 400, 4)
GOOD = Evidence(BEFORE, AFTER, TITLE, {"domains": 0, "ids": 0}, uses=3)


CLEAN = ("schema_valid", "no_extra_keys", "no_unknown_labels", "no_inventions")


def check(verdict: gate.GateDecision, name: str) -> margins.GateCheck:
    return next(found for found in verdict.checks if found.name == name)


def named(evidence: Evidence, name: str, rules: Policy | None = None) -> margins.GateCheck:
    return check(gate.decide_gate(evidence, rules or Policy()), name)


def test_a_run_that_is_better_everywhere_passes() -> None:
    verdict = gate.decide_gate(GOOD, Policy())
    assert [c.name for c in verdict.checks if c.verdict != PASS] == ["against strong"]
    assert [c.name for c in verdict.checks] == [
        *("takedown", "leakage: domains", "leakage: ids", "answers", "test set", "json_valid"),
        *CLEAN,
        *("accuracy", "critical price.title", "against strong"),
    ]
    assert (verdict.word, verdict.exit_code) == (PASS, 0)
    assert verdict.sentence() == "PASS: 12 checks hold"


def faulty(name: str, rows: int, faults: int) -> Evidence:
    """Evidence in which `faults` of `rows` answers have the fault that the check `name` looks
    for.
    """
    fault = {
        "schema_valid": {"schema_valid": False},
        "no_extra_keys": {"proxies": Proxies(extra_keys=2)},
        "no_unknown_labels": {"proxies": Proxies(out_of_enum=1)},
        "no_inventions": {"proxies": Proxies(invented=1)},
    }[name]
    after = [replace(s, **fault) if n < faults else s for n, s in enumerate(AFTER[:rows])]
    return replace(GOOD, before=BEFORE[:rows], after=after)


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize(
    ("rows", "faults", "verdict"), [(400, 0, PASS), (400, 200, FAIL), (40, 1, INSUFFICIENT)]
)
def test_what_is_made_up_is_a_check_of_the_gate(name, rows, faults, verdict) -> None:
    # A perfect answer plus two invented keys passed every check.
    faults = 6 if (name, faults) == ("no_inventions", 1) else faults
    found = named(faulty(name, rows, faults), name)
    assert found.verdict == verdict
    off = Policy(clean=CleanShares(**dict.fromkeys(CLEAN)))
    assert not {c.name for c in gate.decide_gate(faulty(name, rows, faults), off).checks} & {
        *CLEAN
    }


@pytest.mark.parametrize(
    ("rows", "faults", "share"),
    [(100, 2, 0.98), (100, 1, 0.99), (100, 10, 0.9)],
)
def test_a_share_that_is_just_reached_passes(rows, faults, share) -> None:
    name = CLEAN[[0.98, 0.99, None, 0.9].index(share)]
    found = named(faulty(name, rows, faults), name)
    assert (found.verdict, found.wanted) == (PASS, f">= {share:.2%}")
    assert named(faulty(name, rows, faults + 1), name).verdict == INSUFFICIENT


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(SemError, match="clean.no_inventions 1.5 is not a share"):
        CleanShares(no_inventions=1.5)
    with pytest.raises(SemError, match="clean.schema_valid 0 is not a share"):
        CleanShares(schema_valid=0.0)


def test_schema_validity_is_asked_once() -> None:
    rules = Policy(validity=Validity("schema_valid"))
    assert [c.name for c in gate.decide_gate(GOOD, rules).checks].count("schema_valid") == 1


def test_an_equal_run_claims_nothing_and_says_what_is_missing() -> None:
    rows = column("+-++" * 30, 4)
    verdict = gate.decide_gate(Evidence(rows, list(rows), TITLE), Policy())
    assert (verdict.word, verdict.exit_code) == (INSUFFICIENT, 3)
    assert not any(c.facts.get("improved") for c in verdict.checks)
    found = check(verdict, "critical price.title")
    assert found.found == "+0.0 [-3.9, +3.9]"
    assert found.wanted == "> -2.0 points"
    # 0 losses certify "less than 2 %" at 0.025 with 183 rows; 120 in domains of 4 are worth 92.
    assert found.need == MissingEvidence(more_domains=30, more_rows=120)
    assert check(verdict, "json_valid").need == MissingEvidence(more_rows=179)
    assert verdict.more_rows == 179
    assert "about 30 more domains (179 rows)" in verdict.sentence()


def test_a_shown_loss_on_a_critical_slot_fails() -> None:
    after = [one(s.id, s.domain, {"title": "+", "sku": "-"}) for s in AFTER]
    before = [one(s.id, s.domain, {"title": "-", "sku": "+"}) for s in BEFORE]
    critical = frozenset({"price.title", "price.sku"})
    verdict = gate.decide_gate(
        replace(GOOD, before=before, after=after, critical=critical), Policy()
    )
    assert (verdict.word, verdict.exit_code) == (FAIL, 1)
    found = check(verdict, "critical price.sku")
    assert (found.verdict, found.why) == (FAIL, "a loss is shown")
    assert check(verdict, "critical price.title").verdict == PASS
    assert verdict.sentence() == "FAIL: accuracy, critical price.sku"


def test_an_unscored_critical_slot_never_passes() -> None:
    after = column("?" + "+" * 399, 4)
    found = named(replace(GOOD, after=after), "critical price.title")
    assert (found.verdict, found.why) == (INSUFFICIENT, "unscored in 1 rows")
    assert found.need == MissingEvidence()
    every = named(replace(GOOD, after=column("?" * 400, 4)), "critical price.title")
    assert (every.verdict, every.why) == (INSUFFICIENT, "unscored in 400 rows")


def test_a_critical_slot_that_no_row_has_is_not_shown() -> None:
    found = named(replace(GOOD, critical=frozenset({"price.isbn"})), "critical price.isbn")
    assert (found.verdict, found.why, str(found.need)) == (INSUFFICIENT, "no row", "")


def test_an_unscored_other_slot_is_left_out_and_counted() -> None:
    evidence = replace(GOOD, after=column("?" + "+" * 399, 4), critical=frozenset())
    found = named(evidence, "slot price.title")
    assert (found.verdict, found.facts["unscored"]) == (PASS, 1)


def test_what_is_lost_on_one_page_of_a_shop_is_lost_on_all() -> None:
    # 13 of 120 rows lost; all in two domains of twelve. By rows it is shown, by domains not.
    by_rows = column("-" * 13 + "+" * 107, 1)
    by_domain = column("-" * 13 + "+" * 107, 10)
    rule = DifferenceRule(margin_points=2.0)
    verdicts = []
    for after in (by_rows, by_domain):
        before = [one(s.id, s.domain) for s in after]
        made = paired_stats.slot_pairs(before, after)
        verdicts.append(
            margins.check_difference_family(made, FamilyRule("critical", rule, Policy()))[
                0
            ].verdict
        )
    assert verdicts == [FAIL, INSUFFICIENT]


def test_the_words_and_the_json_of_a_check() -> None:
    assert (PASS, FAIL, INSUFFICIENT) == ("PASS", "FAIL", "INSUFFICIENT")
    assert (WARN, NOT_TESTABLE) == ("WARN", "not testable")
    said = margins.GateCheck("c", PASS, "1", "2", need=MissingEvidence(1, 2)).as_json()
    assert said == {
        "name": "c",
        "verdict": "PASS",
        "found": "1",
        "wanted": "2",
        "why": "",
        "need": {"more_domains": 1, "more_rows": 2},
        "facts": {},
    }


def rule_verdict(
    marks_before: str, marks_after: str, rule: DifferenceRule, domains: int = 1
) -> str:
    made = paired_stats.slot_pairs(column(marks_before, domains), column(marks_after, domains))
    return margins.check_difference_family(made, FamilyRule("", rule, Policy()))[0]


@pytest.mark.parametrize(
    ("rule", "before", "after", "verdict", "why"),
    [
        (DifferenceRule(margin_points=5.0), "+" * 90, "+" * 90, PASS, ""),
        (DifferenceRule(margin_points=5.0), "+" * 60, "+" * 60, INSUFFICIENT, ""),
        (
            DifferenceRule(margin_points=5.0),
            "+" * 9,
            "+" * 9,
            INSUFFICIENT,
            "9 of at least 10 domains",
        ),
        (
            DifferenceRule(margin_points=5.0),
            "+" * 100,
            "+" * 80 + "-" * 20,
            FAIL,
            "a loss is shown",
        ),
        (
            DifferenceRule(margin_points=9.0),
            "+" * 200,
            "+" * 186 + "-" * 14,
            INSUFFICIENT,
            "a loss is shown, by estimate inside the margin",
        ),
        (DifferenceRule("superiority", 0.0), "-" * 20 + "+" * 80, "+" * 100, PASS, ""),
        (
            DifferenceRule("superiority", 30.0, 40.0),
            "-" * 20 + "+" * 80,
            "+" * 100,
            FAIL,
            "a gain of 40 points is ruled out",
        ),
        (
            DifferenceRule("superiority", 0.0, 5.0),
            "+" * 300,
            "+" * 300,
            FAIL,
            "a gain of 5 points is ruled out",
        ),
        (DifferenceRule("superiority", 0.0, 5.0), "+" * 30, "+" * 30, INSUFFICIENT, ""),
        (DifferenceRule(margin_points=5.0, by="point"), "+" * 9, "+" * 9, PASS, ""),
        (
            DifferenceRule(margin_points=5.0, by="point"),
            "+" * 9,
            "+" * 8 + "-",
            INSUFFICIENT,
            "9 of at least 10 domains",
        ),
        (
            DifferenceRule(margin_points=5.0, by="point"),
            "+" * 20,
            "+" * 18 + "-" * 2,
            INSUFFICIENT,
            "",
        ),
        (
            DifferenceRule(margin_points=5.0, by="point"),
            "+" * 100,
            "+" * 80 + "-" * 20,
            FAIL,
            "a loss is shown",
        ),
    ],
)
def test_a_rule_has_three_ends(rule, before, after, verdict, why) -> None:
    found = rule_verdict(before, after, rule)
    assert (found.verdict, found.why) == (verdict, why)


def test_ten_domains_are_the_fewest_by_default() -> None:
    rule = DifferenceRule("superiority", 0.0)
    assert rule_verdict("-" * 9, "+" * 9, rule).verdict == INSUFFICIENT
    assert rule_verdict("-" * 9, "+" * 9, rule).need == MissingEvidence(1, 1)
    assert rule_verdict("-" * 10, "+" * 10, rule).verdict == PASS


def test_levels_are_shared_by_the_members_of_a_family() -> None:
    # p of one slot is 0.0179: shown alone, not shown among four.
    before = column("-" * 7 + "+" * 93)
    slots = [f"s{n}" for n in range(4)]
    rule = DifferenceRule("superiority", 0.0)
    after = [one(s.id, s.domain, dict.fromkeys(slots, "+")) for s in before]
    many = [
        one(s.id, s.domain, dict.fromkeys(slots, "-" if n < 7 else "+"))
        for n, s in enumerate(before)
    ]
    alone = {"s0": paired_stats.slot_pairs(many, after)["price.s0"]}
    together = paired_stats.slot_pairs(many, after)
    (single,) = margins.check_difference_family(alone, FamilyRule("", rule, Policy(side=0.005)))
    assert single.verdict == PASS
    checks = margins.check_difference_family(together, FamilyRule("", rule, Policy(side=0.005)))
    assert {c.verdict for c in checks} == {INSUFFICIENT}
    assert [c.name for c in checks] == [f"price.s{n}" for n in range(4)]
    assert checks[0].facts["p_pass"] == pytest.approx(4 * single.facts["p_pass"])
    assert not checks[0].facts["improved"]
    assert single.facts["improved"]


def test_a_slots_gain_is_claimed_after_the_overall_one() -> None:
    # The title gains what the sku loses: overall nothing is gained.
    before = [one(s.id, s.domain, {"title": "-", "sku": "+"}) for s in BEFORE]
    after = [one(s.id, s.domain, {"title": "+", "sku": "-"}) for s in BEFORE]
    verdict = gate.decide_gate(replace(GOOD, before=before, after=after), Policy())
    found = check(verdict, "critical price.title")
    assert (found.verdict, found.facts["p_gain"] < 1e-9) == (PASS, True)
    assert not found.facts["improved"]
    assert named(GOOD, "critical price.title").facts["improved"]


def test_the_need_says_how_much_more_and_keeps_its_word() -> None:
    rule = DifferenceRule(margin_points=5.0)
    marks = "+-" * 5 + "++" * 35, "-+" * 5 + "++" * 35
    found = rule_verdict(*marks, rule)
    assert found.verdict == INSUFFICIENT
    assert found.need.more_rows == found.need.more_domains > 100
    times = 1 + found.need.more_domains / 80
    made = paired_stats.slot_pairs(*(column(m * round(times + 0.5)) for m in marks))
    (later,) = margins.check_difference_family(made, FamilyRule("", rule, Policy()))
    assert later.verdict == PASS


def test_a_smaller_level_and_more_power_need_more() -> None:
    made = paired_stats.slot_pairs(column("+-" * 5 + "++" * 35), column("-+" * 5 + "++" * 35))
    rule = DifferenceRule(margin_points=5.0)

    def need(rules: Policy) -> int:
        return margins.check_difference_family(made, FamilyRule("", rule, rules))[
            0
        ].need.more_domains

    assert need(Policy(side=0.01)) > need(Policy()) > need(Policy(power=0.6))


def made(before: str, after: str, rows: int = 1) -> paired_stats.PairedDifferences:
    return paired_stats.slot_pairs(column(before, rows), column(after, rows))["price.title"]


def test_members_of_a_family_are_told_in_order_and_planned_at_their_share() -> None:
    pairs = made("+-" * 5 + "+" * 70, "-+" * 5 + "+" * 70)
    checks = margins.check_difference_family(
        dict.fromkeys("ba", pairs), FamilyRule("x", DifferenceRule(margin_points=5.0), Policy())
    )
    assert [c.name for c in checks] == ["x a", "x b"]
    total = planning.estimate_needed_domains(pairs.found, 0.05, 0.0125, 0.8)
    assert {c.need for c in checks} == {MissingEvidence(total - 80, total - 80)}


def need(
    pairs: paired_stats.PairedDifferences, rule: DifferenceRule, rules: Policy | None = None
) -> MissingEvidence:
    (found,) = margins.check_difference_family(
        {"s": pairs}, FamilyRule("", rule, rules or Policy())
    )
    assert found.verdict == INSUFFICIENT
    return found.need


def test_a_need_is_planned_on_no_difference() -> None:
    pairs = made("+-" * 5 + "+" * 70, "-+" * 5 + "+" * 70)
    total = planning.estimate_needed_domains(pairs.found, 0.05, 0.025, 0.8)
    assert need(pairs, DifferenceRule(margin_points=5.0)) == MissingEvidence(
        total - 80, total - 80
    )


def test_a_need_follows_the_estimate_where_the_plan_was_met_in_vain() -> None:
    # 9 lost and 2 gained of 280: a plan for no difference asks for 230 rows.
    pairs = made("-" * 2 + "+" * 278, "+" * 271 + "-" * 9)
    assert planning.estimate_needed_domains(pairs.found, 0.04, 0.025, 0.8) < 280
    total = planning.estimate_needed_domains(pairs.found, 0.04 - 7 / 280, 0.025, 0.8)
    assert total > 1000
    assert need(pairs, DifferenceRule(margin_points=4.0)) == MissingEvidence(
        total - 280, total - 280
    )


def test_a_need_where_few_domains_moved_is_that_of_the_exact_bound() -> None:
    for losses in (0, 1):
        pairs = made("+" * 40, "-" * losses + "+" * (40 - losses))
        rows = planning.rows_to_certify(losses, 0.9, 0.025)
        assert need(
            pairs, DifferenceRule(margin_points=10.0), Policy(min_domains=41)
        ).more_rows == max(
            rows - 40, planning.estimate_needed_domains(pairs.found, 0.1, 0.025, 0.8) - 40, 1
        )
    # Four lost rows of fifteen domains of six are worth three of sixty independent ones.
    pairs = made("+" * 90, "-+++++" * 4 + "+" * 66, 6)
    assert pairs.found.effective == pytest.approx(60)
    rows = planning.rows_to_certify(3, 0.9, 0.025)
    total = math.ceil(rows / 60 * 15)
    assert total > planning.estimate_needed_domains(pairs.found, 0.1, 0.025, 0.8)
    assert need(pairs, DifferenceRule(margin_points=10.0)) == MissingEvidence(
        total - 15, (total - 15) * 6
    )


def test_a_need_of_a_gain_is_planned_on_the_gain_worth_having() -> None:
    pairs = made("-" * 2 + "+" * 38, "+" * 40)
    total = planning.estimate_needed_domains(pairs.found, 0.04, 0.025, 0.8)
    assert need(pairs, DifferenceRule("superiority", 1.0, 5.0)) == MissingEvidence(
        total - 40, total - 40
    )


def test_a_need_has_at_least_the_fewest_domains() -> None:
    rule = DifferenceRule("superiority", 0.0)
    assert need(made("-" * 9, "+" * 9), rule, Policy(min_domains=30)) == MissingEvidence(21, 21)
    assert need(made("+" * 9, "+" * 9), rule, Policy(min_domains=30)) == MissingEvidence(21, 21)
    assert need(made("+" * 2, "+" * 2), rule) == MissingEvidence(8, 8)
    assert need(made("+", "+"), rule) == MissingEvidence()
    # 21 rows of 10 domains and one to go: 2.1 rows are three.
    assert need(made("-" * 21, "+" * 21, 2), rule, Policy(min_domains=12)) == MissingEvidence(1, 2)
    assert need(made("-" * 20, "+" * 20, 3), rule, Policy(min_domains=8)) == MissingEvidence(1, 3)


def test_the_rule_decides_at_its_edges() -> None:
    pairs = made("+-" * 5 + "+" * 70, "-+" * 5 + "+" * 70)
    p = float(clusters.p_above(pairs.found, -0.05))
    bar = FamilyRule("", DifferenceRule(margin_points=5.0), Policy(side=p))
    assert margins.check_difference_family({"s": pairs}, bar)[0].verdict == PASS
    lost = made("+" * 40, "-" * 20 + "+" * 20)
    p = float(clusters.p_below(lost.found, 0.0))
    bar = FamilyRule("", DifferenceRule(margin_points=5.0), Policy(side=p))
    assert margins.check_difference_family({"s": lost}, bar)[0].verdict == FAIL
    even = FamilyRule("", DifferenceRule(margin_points=50.0, by="point"), Policy())
    assert (
        margins.check_difference_family({"s": lost}, even)[0].verdict == FAIL
    )  # not above -50 points


def test_a_claim_of_a_gain_stands_at_its_level() -> None:
    pairs = made("-" * 20 + "+" * 20, "+" * 40)
    p = float(clusters.p_above(pairs.found, 0.0))
    bar = FamilyRule("", DifferenceRule(), Policy(side=p))
    assert margins.check_difference_family({"s": pairs}, bar)[0].facts["improved"]


def test_facts_say_what_the_data_could_have_shown() -> None:
    facts = rule_verdict("+-" * 20, "++" * 20, DifferenceRule(), 4).facts
    assert facts["mcnemar_p"] == pytest.approx(2 * 0.5**20)
    assert (facts["gains"], facts["losses"], facts["domains"]) == (20, 0, 10)
    assert facts["icc"] == 0.0
    assert facts["bootstrap_low"] is None
    # Every domain gained two rows of four: nothing varies between domains.
    assert facts["detectable_points"] == 0.0
    some = made("+-" * 5 + "+" * 70, "-+" * 5 + "+" * 70)
    (check,) = margins.check_difference_family(
        {"s": some}, FamilyRule("", DifferenceRule(), Policy(side=0.01, power=0.7))
    )
    could = round(100 * planning.detectable_with(some.found, 0.01, 0.7), 2)
    assert check.facts["detectable_points"] == could
    two = rule_verdict("++", "-+", DifferenceRule()).facts
    assert two["detectable_points"] == 100.0
    alone = rule_verdict("+", "-", DifferenceRule()).facts
    assert (alone["detectable_points"], alone["icc"]) == (None, None)
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "name", "verdict", "found"),
    [
        ({"shared": {"domains": 1}}, "leakage: domains", FAIL, "1"),
        ({"shared": {"ids": 2}}, "leakage: ids", FAIL, "2"),
        ({"withdrawn": ("v1", "v2")}, "takedown", FAIL, "withdrawn: v1, v2"),
        ({"uses": 20}, "test set", PASS, "gate 20"),
        ({"uses": 21}, "test set", WARN, "gate 21"),
        ({"is_judge_calibrated": False}, "judge", INSUFFICIENT, "not calibrated"),
        ({"is_judge_calibrated": True}, "judge", PASS, "calibrated"),
        ({"after": AFTER[1:]}, "answers", INSUFFICIENT, "1 unpaired"),
        ({"before": [], "after": []}, "answers", INSUFFICIENT, "no example"),
        ({}, "answers", PASS, "400 pairs"),
    ],
)
def test_preconditions(change, name, verdict, found) -> None:
    said = named(replace(GOOD, **change), name)
    assert (said.verdict, said.found) == (verdict, found)


def test_a_baseline_that_did_not_answer_makes_nobody_better() -> None:
    silent = [replace(s, finish="missing") for s in BEFORE[:7]] + BEFORE[7:]
    said = named(replace(GOOD, before=silent), "answers")
    assert (said.verdict, said.found) == (INSUFFICIENT, "7 not answered by the baseline")
    lazy = [replace(s, finish="missing") for s in AFTER]
    assert named(replace(GOOD, after=lazy), "answers").found == "400 not answered by the run"


def test_a_policy_may_look_away_and_says_so_by_silence() -> None:
    rules = Policy(shared_domains=None, takedown="off", strong=Strong(test="off"))
    names = [c.name for c in gate.decide_gate(replace(GOOD, withdrawn=("v1",)), rules).checks]
    assert names == [
        *("answers", "test set", "json_valid", *CLEAN, "accuracy", "critical price.title"),
    ]


def test_shared_domains_may_be_allowed_shared_ids_never() -> None:
    evidence = replace(GOOD, shared={"domains": 2, "ids": 1})
    rules = Policy(shared_domains=2)
    assert named(evidence, "leakage: domains", rules).verdict == PASS
    assert named(evidence, "leakage: ids", rules).verdict == FAIL
    assert named(evidence, "leakage: domains", Policy(shared_domains=1)).verdict == FAIL


@pytest.mark.parametrize(
    ("package", "verdict", "found"),
    [
        (None, INSUFFICIENT, "none"),
        ((), PASS, "whole"),
        (("model: missing", "x"), FAIL, "model: missing"),
    ],
)
def test_a_required_package_is_there_and_whole(package, verdict, found) -> None:
    said = named(replace(GOOD, package=package), "package", Policy(parity="required"))
    assert (said.verdict, said.found) == (verdict, found)


@pytest.mark.parametrize(
    ("then", "word"), [("warn", PASS), ("insufficient", INSUFFICIENT), ("fail", FAIL)]
)
def test_the_policy_says_what_a_worn_test_set_does(then, word) -> None:
    verdict = gate.decide_gate(replace(GOOD, uses=4), Policy(worn=WornSplit(3, then)))
    assert verdict.word == word
    assert check(verdict, "test set").why.startswith("worn")
    assert check(verdict, "test set").wanted == "at most 3 gates"


def test_an_uncalibrated_judge_gates_only_where_the_policy_says_so() -> None:
    evidence = replace(GOOD, is_judge_calibrated=False)
    assert gate.decide_gate(evidence, Policy()).word == INSUFFICIENT
    assert gate.decide_gate(evidence, Policy(judge="any")).word == PASS


@pytest.mark.parametrize(
    ("valid", "rows", "wanted", "verdict", "more"),
    [
        (299, 299, Validity(), PASS, None),
        (298, 298, Validity(), INSUFFICIENT, 1),
        # 473 rows with one failure.
        (298, 299, Validity(), INSUFFICIENT, 174),
        (80, 100, Validity(), FAIL, None),
        (0, 0, Validity(), INSUFFICIENT, 299),
        (99, 100, Validity(by="point"), PASS, None),
        (98, 100, Validity(by="point"), FAIL, None),
        (0, 0, Validity(by="point"), FAIL, None),
        (229, 229, Validity(confidence=0.9), PASS, None),  # 0.99^230 < 0.1
        (100, 100, Validity("schema_valid", 0.95), PASS, None),
    ],
)
def test_validity(valid, rows, wanted, verdict, more) -> None:
    if wanted.confidence == 0.9:
        valid = rows = 230
    scores = [one(f"e{n}", **{wanted.measure: n < valid}) for n in range(rows)]
    said = gate.check_valid_share(scores, wanted)
    assert (said.name, said.verdict, said.need.more_rows) == (wanted.measure, verdict, more)
    assert said.facts["hits"] == valid


def test_validity_is_told_with_its_interval() -> None:
    said = gate.check_valid_share(
        [one(f"e{n}", json_valid=n < 90) for n in range(100)], Validity()
    )
    assert said.found == "90.00% [83.63%, 94.47%]"
    assert said.facts == pytest.approx(
        {"hits": 90, "rows": 100, "low": 0.83635, "high": 0.94467}, abs=1e-4
    )
    near = gate.check_valid_share([one("e", json_valid=True)], Validity())
    assert near.why == "rows without a further failure"
    assert said.wanted == "lower bound >= 99.00%"
    assert gate.check_valid_share([], Validity(by="point")).wanted == ">= 99.00%"


def test_the_strong_model_is_tested_only_on_references_that_are_not_its_own() -> None:
    said = named(GOOD, "against strong")
    assert (said.verdict, said.why) == (
        NOT_TESTABLE,
        "no reference is marked independent of it (meta.reference_source)",
    )
    ids = frozenset(s.id for s in AFTER[:300])
    said = named(replace(GOOD, independent=ids), "against strong")
    assert (said.verdict, said.why) == (NOT_TESTABLE, "no answers of the strong model")
    strong = column("+" * 400, 4)
    evidence = replace(GOOD, independent=ids, strong=strong)
    said = named(evidence, "against strong price.title")
    assert (said.verdict, said.facts["pairs"], said.wanted) == (PASS, 300, "> -2.0 points")
    weak = replace(evidence, after=column("-" * 100 + "+" * 300, 4))
    assert named(weak, "against strong price.title").verdict == FAIL
    assert gate.against_strong(replace(GOOD, critical=frozenset()), Policy()) == []


def test_costs_are_held_to_limits_and_ratios() -> None:
    fast = [replace(s, latency_ms=n, tokens_in=90, tokens_out=30) for n, s in enumerate(AFTER)]
    # Ten rows: the 95th percentile is the tenth.
    few = replace(GOOD, after=fast[9::-1])
    assert [c.found for c in gate.check_costs(few, Policy(latency_ms=Limit(1)))] == ["9"]
    rules = Policy(latency_ms=Limit(379, 7.6), tokens=Limit(120, 1.0))
    said = {c.name: c for c in gate.check_costs(replace(GOOD, after=fast), rules)}
    assert [(c.name, c.verdict) for c in said.values()] == [
        # The 380th of 400: 379.
        ("latency ms p95", PASS),
        ("latency ms p95, ratio", PASS),
        ("tokens, mean", PASS),
        ("tokens, mean, ratio", PASS),
    ]
    assert said["latency ms p95, ratio"].found == "379 of 50"
    assert said["tokens, mean"].facts == {"baseline": 120.0, "run": 120.0}
    rules = Policy(latency_ms=Limit(378, 7.5), tokens=Limit(119, 0.99))
    said = gate.check_costs(replace(GOOD, after=list(reversed(fast))), rules)
    assert {c.verdict for c in said} == {FAIL}
    assert list(gate.check_costs(GOOD, Policy())) == []
    assert [c.found for c in gate.check_costs(Evidence([], [], TITLE), rules)][::2] == ["0", "0"]


def test_the_words_of_the_table() -> None:
    said = gate.decide_gate(replace(GOOD, package=None), Policy(parity="required"))
    words = {c.name: (c.found, c.wanted, c.why) for c in said.checks[:7]}
    assert words == {
        "takedown": ("none withdrawn", "no withdrawn snapshot", ""),
        "leakage: domains": ("0", "0 shared with train", ""),
        "leakage: ids": ("0", "0 shared with train", ""),
        "answers": ("400 pairs", "every example, by both", ""),
        "package": ("none", "whole", "make it with `fab package.export`"),
        "test set": ("gate 3", "at most 20 gates", ""),
        "json_valid": ("100.00% [99.25%, 100.00%]", "lower bound >= 99.00%", ""),
    }
    whole = gate.decide_gate(replace(GOOD, package=()), Policy(parity="required"))
    assert check(whole, "package").wanted == "whole"
    worn = named(replace(GOOD, uses=21), "test set")
    assert worn.why == "worn: choosing runs by it has fitted it; cut a new snapshot"
    both = [replace(s, finish="missing") for s in AFTER[1:]]
    assert named(replace(GOOD, after=both), "answers").found == (
        "399 not answered by the run, 1 unpaired"
    )
    assert Evidence([], [], TITLE).uses == 1


def test_the_most_that_any_check_needs_is_needed() -> None:
    needs = [
        MissingEvidence(3, 30),
        MissingEvidence(7, 21),
        MissingEvidence(more_rows=99),
        MissingEvidence(),
    ]
    checks = [
        margins.GateCheck(f"c{n}", INSUFFICIENT, "", "", "", n_) for n, n_ in enumerate(needs)
    ]
    verdict = gate.GateDecision(tuple(checks))
    assert (verdict.more_domains, verdict.more_rows) == (7, 99)
    assert verdict.sentence() == "INSUFFICIENT: c0, c1, c2, c3; about 7 more domains (99 rows)"
    checks = [margins.GateCheck(f"c{n}", FAIL, "", "") for n in range(5)]
    assert gate.GateDecision(tuple(checks)).sentence() == "FAIL: c0, c1, c2, c3 and 1 more"
    unknown = margins.GateCheck("c", INSUFFICIENT, "", "")
    assert gate.GateDecision((unknown,)).sentence() == "INSUFFICIENT: c"


def test_the_verdict_names_what_decided_it() -> None:
    bad = replace(GOOD, withdrawn=("v1",), shared={"domains": 1, "ids": 1, "groups": 1})
    verdict = gate.decide_gate(replace(bad, after=column("-" * 400, 4)), Policy())
    assert verdict.sentence() == (
        "FAIL: takedown, leakage: domains, leakage: groups, leakage: ids and 2 more"
    )
    assert gate.GateDecision(()).sentence() == "INSUFFICIENT: nothing was checked"
    assert gate.GateDecision(()).exit_code == 3
    assert (gate.GateDecision(()).more_rows, gate.GateDecision(()).more_domains) == (None, None)


def test_withdrawn_data_are_not_read_again() -> None:
    verdict = gate.refuse_gate(("v2",))
    assert (verdict.word, verdict.exit_code) == (FAIL, 1)
    assert verdict.sentence() == "FAIL: takedown"
    assert verdict.checks[0].wanted == "no withdrawn snapshot"


def test_needs_read_as_a_person_would_say_them() -> None:
    assert str(MissingEvidence()) == ""
    assert str(MissingEvidence(more_rows=1200)) == "1,200 more rows"
    assert str(MissingEvidence(1200, 4800)) == "about 1,200 more domains (4,800 rows)"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"critical": {"margin_points": -1}}, "margin_points -1 or worth_points 2 is negative"),
        ({"critical": {"margin_points": 0}}, "a non-inferiority margin of 0 cannot be shown"),
        ({"overall": {"worth_points": 0}}, "worth_points 0 is not above margin_points 0"),
        ({"overall": {"worth_points": -1}}, "worth_points -1 is negative"),
        ({"validity": {"at_least": 1}}, "at_least 1 cannot be shown by a lower bound"),
        ({"validity": {"at_least": 0}}, "at_least 0 cannot be shown by a lower bound"),
        ({"side": 0.5}, "side 0.5 or power 0.8 is out of range"),
        ({"side": 0}, "side 0 or power 0.8 is out of range"),
        ({"power": 1}, "side 0.025 or power 1 is out of range"),
        ({"power": 0.4}, "side 0.025 or power 0.4 is out of range"),
        ({"critcal": {}}, "unknown key 'critcal'"),
        ({"parity": "no"}, "parity"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(values, message) -> None:
    with pytest.raises(SemError, match=message):
        settings.build_settings(Policy, values, "gate.yaml")


def test_edges_of_a_policy_that_are_allowed() -> None:
    assert Policy(power=0.5, side=0.49)
    assert Validity(at_least=1.0, by="point")
    assert DifferenceRule("superiority", 0.0, 0.1).target == 0.0
    assert Overall().test == "superiority"


def test_the_shipped_policy_is_the_default_and_every_key_is_in_it() -> None:
    path = ROOT / "configs" / "gate.yaml"
    assert settings.load_settings(Policy, path) == Policy()
    written = settings.read_yaml(path)
    assert set(written) == set(Policy.__dataclass_fields__)
