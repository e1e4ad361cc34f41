"""The rubric's arithmetic, in Decimal, on invoices that add up and on one that does not."""

from pathlib import Path
from typing import Any

import pytest
from toy import SPEC

from sem.core import settings, taskspec
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.answers.answers import Answer
from sem.eval.scoring import align, metrics, rubric, scoring

CHECKS = [
    {"id": "totals_equation", "tolerance": 0.02},
    {"id": "line_items_sum", "tolerance": 0.05},
]
AMOUNTS = {"subtotal": 88.0, "tax_total": 17.6, "shipping": 5.0, "discount": 1, "total": 109.6}
GOOD = {"amounts": AMOUNTS, "line_items": [{"line_total": 35.0}, {"line_total": 53}]}


def spec(**changes: Any) -> TaskSpec:
    values = SPEC | {"base_model_id": "x", "rubric": {"checks": CHECKS, **changes}}
    return settings.build_settings(TaskSpec, values, "spec")


def amounts(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "amounts": {**GOOD["amounts"], **changes}}


def results(said: Any, wanted: Any = GOOD) -> dict[str, tuple[bool, bool | None]]:
    return {c.id: (c.passed, c.reference) for c in rubric.check_arithmetic(said, wanted, spec())}


@pytest.mark.parametrize(
    ("said", "totals", "lines"),
    [
        (GOOD, True, True),
        # |0.02| <= 0.02 is False in floats.
        (amounts(total=109.62), True, True),
        (amounts(total=109.63), False, True),
        (amounts(total=109.58), True, True),
        (amounts(total=109.57), False, True),
        (amounts(subtotal=88.05, total=109.65), True, True),
        (amounts(subtotal=88.06, total=109.66), True, False),
        (amounts(subtotal=87.95, total=109.55), True, True),
        (amounts(subtotal=87.94, total=109.54), True, False),
        (amounts(discount=None, total=110.6), True, True),
        (amounts(shipping=None, total=104.6), True, True),
        (amounts(tax_total=None, total=92), True, True),
        (amounts(total=None), False, True),
        (amounts(subtotal=None), False, False),
        (amounts(total="109.6"), False, True),
        (amounts(total=True), False, True),
        ({**GOOD, "line_items": []}, True, False),
        ({**GOOD, "line_items": [{"line_total": 88}, {}]}, True, False),
        ({**GOOD, "line_items": [{"line_total": 88}, "x"]}, True, False),
        ({**GOOD["amounts"], "lineItems": [{"lineTotal": 88}]}, True, True),
        ({"total": 10, "subTotal": 8, "taxTotal": 2, "lineItems": [{"lineTotal": 8}]}, True, True),
        ({"vendor": {"total": 5}, **GOOD}, True, True),
        ({}, False, False),
        ([], False, False),
        (align.NOTHING, False, False),
    ],
)
def test_an_answer(said: Any, totals: bool, lines: bool) -> None:
    assert results(said) == {
        "arith.totals_equation": (totals, True),
        "arith.line_items_sum": (lines, True),
    }


def test_a_check_applies_where_either_side_can_be_computed() -> None:
    assert results({}, {}) == {}
    assert results(GOOD, {}) == {
        "arith.totals_equation": (True, None),
        "arith.line_items_sum": (True, None),
    }
    assert results({}, amounts(total=1))["arith.totals_equation"] == (False, False)


def test_the_evidence_shows_the_sum() -> None:
    found = rubric.check_arithmetic(amounts(total=105.6), GOOD, spec())
    assert found[0].evidence == (
        "88.0 + 17.6 + 5.0 - 1 = 109.6; said 105.6 (is not; tolerance 0.02)"
    )
    assert found[1].evidence == "35.0 + 53 = 88.0; said 88.0 (=; tolerance 0.05)"
    missing = rubric.check_arithmetic({}, GOOD, spec())
    assert missing[0].evidence == "not computable from the answer"


def test_the_shipped_gold_example_fails_its_own_equation(shared: Path) -> None:
    # Shipping is counted twice there: 88 + 17.6 + 5 = 110.6, not 105.6.
    path = shared / "compat/promptprecision/specs/examples/invoice-mvp.taskspec.json"
    task = taskspec.load_taskspec(path)
    gold = task.example.output_json
    found = {c.id: (c.passed, c.reference) for c in rubric.check_arithmetic(gold, gold, task)}
    assert found == {
        "arith.totals_equation": (False, False),
        "arith.line_items_sum": (True, True),
    }
    example = Example("1", task.task_id, task.example.input_text, gold)
    said = Answer("1", task.task_id, taskspec.taught_text(gold), "stop", 1, 1, 1, 1)
    score = scoring.score_answer(example, said, task, None)
    assert (score.accuracy, score.rubric) == (1.0, pytest.approx(0.6 + 0.25 + 0.075))
    consist = metrics.compute_totals([score])["total_consist"]
    assert consist["arith.totals_equation"] == {"n": 1, "pass": 0.0, "reference_fails": 1}
    assert consist["arith.line_items_sum"] == {"n": 1, "pass": 1.0, "reference_fails": 0}


def test_a_check_is_named_in_a_list_of_objects_too() -> None:
    assert rubric.check_arithmetic(GOOD, GOOD, spec(checks=[{"id": "totals_equation"}]))[0].passed


WEIGHTS = {
    "field_exact_match_weight": 0.6,
    "schema_validity_weight": 0.25,
    "arithmetic_checks_weight": 0.15,
}
PASS, FAIL = (rubric.RubricCheck("x", passed, True, "") for passed in (True, False))


@pytest.mark.parametrize(
    ("fem", "valid", "checks", "value"),
    [
        (1.0, True, [PASS], 1.0),
        (0.5, True, [PASS, FAIL], 0.3 + 0.25 + 0.075),
        (0.0, False, [FAIL], 0.0),
        # No check applies: its weight falls away.
        (1.0, False, [], 0.6 / 0.85),
        (0.0, True, [], 0.25 / 0.85),
    ],
)
def test_the_weighted_score(fem: float, valid: bool, checks: list, value: float) -> None:
    assert rubric.compute_rubric_score(fem, valid, checks, spec(scoring=WEIGHTS)) == pytest.approx(
        value
    )


def test_no_weights_no_score() -> None:
    assert rubric.compute_rubric_score(1.0, True, [PASS], spec()) is None
    assert rubric.compute_rubric_score(1.0, True, [PASS], spec(scoring={})) is None
    assert (
        rubric.compute_rubric_score(1.0, True, [], spec(scoring={"arithmetic_checks_weight": 1}))
        is None
    )
    only = {"schema_validity_weight": 2}
    assert rubric.compute_rubric_score(0.0, True, [FAIL], spec(scoring=only)) == 1.0
