"""FEM, FWT, MISS, HALL, precision, recall and confusion: by hand, and beside scikit-learn."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from toy import SPEC

from sem.core import jsonio, settings, slotspec
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.answers.answers import Answer
from sem.eval.scoring import metrics, scoring
from sem.eval.scoring.align import ABSENT, NOTHING, AlignedValue
from sem.eval.scoring.metrics import Prices
from sem.eval.scoring.scoring import Score

LINE = {"type": "object", "properties": {"name": {"type": "string"}, "price": {"type": "number"}}}
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "price": {"type": ["number", "null"]},
        "colour": {"enum": ["red", "green", "blue", None]},
        "new": {"type": "boolean"},
        "seller": {"type": "object", "properties": {"name": {"type": "string"}}},
        "lines": {"type": "array", "items": LINE},
    },
}
RUBRIC = {
    "slots": {
        "title": {"level": "substring", "critical": True},
        "price": {"level": "numeric_tol"},
        "lines[].price": {"level": "numeric_tol", "tolerance": 0.01},
    }
}
VALUES = SPEC | {"base_model_id": "x", "io_schema": SCHEMA, "rubric": RUBRIC}
TASK = settings.build_settings(TaskSpec, VALUES, "spec")
COLOURS = ["red", "green", "blue", None]


def scored(said: Any, wanted: Any, page: str = "page", **meta: Any) -> Score:
    """Return the Score of `said`, a value or a raw text, where `wanted` is the reference."""
    example = Example(meta.pop("id", "1"), "t", page, wanted, {"domain": "d", **meta})
    text = said if isinstance(said, str) else json.dumps(said)
    return scoring.score_answer(
        example, Answer("1", "t", text, "stop", 100, 10, 50, 1), TASK, None
    )


def field(name: str, *pairs: tuple[Any, Any]) -> dict[str, Any]:
    return metrics.compute_field_rates([scored(said, wanted) for said, wanted in pairs])[
        f"t.{name}"
    ]


def test_the_four_rates_have_the_denominators_of_the_formats() -> None:
    found = field(
        "price",
        ({"price": 10}, {"price": 10}),  # exact
        # Exact but for spelling; the strict slot fails.
        ({"price": "10,00"}, {"price": 10}),
        ({"price": 10.01}, {"price": 10}),  # within 0.01
        ({"price": 11}, {"price": 10}),
        ({"price": None}, {"price": 10}),
        ({}, {"price": 10}),
        ("no JSON", {"price": 10}),
        ({"price": 5}, {"price": None}),
        ({"price": 5}, {"title": "x"}),
        ({"price": None}, {"price": None}),
        # Nobody writes it: ineligible, and no slot.
        ({"title": "x"}, {"title": "x"}),
    )
    assert (found["n"], found["eligible"], found["ineligible"]) == (10, 7, 4)
    assert found["fem"] == 2 / 7
    assert found["fwt"] == 3 / 7
    assert found["miss"] == 3 / 7
    assert found["hall"] == 2 / 4
    assert (found["missing"], found["spurious"]) == (3, 2)
    assert found["pass"] == 2 / 10
    assert found["score"] == 2 / 10


def test_rates_without_a_denominator_are_not_zero() -> None:
    found = field("price", ({"price": 1}, {}))
    assert (found["fem"], found["fwt"], found["miss"], found["hall"]) == (None, None, None, 1.0)
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, None, None)
    found = field("price", ({}, {"price": 1}))
    assert (found["precision"], found["recall"], found["f1"], found["hall"]) == (None, 0, 0, None)


def test_the_level_passes_within_its_threshold_and_counts_for_fwt() -> None:
    found = field("title", ({"title": "Blue mug, large"}, {"title": "blue mug"}))
    assert (found["fem"], found["fwt"], found["pass"]) == (0.0, 1.0, 1.0)


def test_a_list_of_objects_is_one_slot_a_field_and_counts_its_items() -> None:
    wanted = {"lines": [{"name": "a", "price": 1}, {"name": "b", "price": 2}]}
    said = {"lines": [{"name": "b", "price": 3}, {"name": "a", "price": 1}, {"name": "c"}]}
    score = scored(said, wanted)
    name, price = score.slots["lines[].name"], score.slots["lines[].price"]
    assert (name.score, name.passed, name.exact, name.within) == (2 / 3, False, False, False)
    assert (price.score, price.passed, price.errors) == (0.5, False, ("truncated_evidence",))
    assert name.errors == ("hallucinated",)
    found = metrics.compute_field_rates([score])
    assert found["t.lines[].name"]["precision"] == 2 / 3
    assert found["t.lines[].name"]["recall"] == 1.0
    assert found["t.lines[].name"]["f1"] == 0.8
    assert (found["t.lines[].name"]["spurious"], found["t.lines[].price"]["missing"]) == (1, 0)
    assert metrics.compute_totals([score])["li_align"] == {"t.lines[]": 2 / 3}
    lost = metrics.compute_field_rates([scored({}, wanted)])["t.lines[].price"]
    assert (lost["missing"], lost["miss"], lost["recall"]) == (2, 1.0, 0.0)
    right = scored(wanted, wanted)
    assert (right.accuracy, right.row_exact) == (1.0, True)
    assert metrics.compute_totals([right, score])["li_align"] == {"t.lines[]": 4 / 5}
    assert right.slots["lines[].price"].counts == scoring.SlotCounts(2, 2, 2, 0, 0)
    half = scored(
        {"lines": [{"name": "a"}]}, {"lines": [{"name": "a", "price": 1}, {"name": "b"}]}
    )
    name, price = half.slots["lines[].name"], half.slots["lines[].price"]
    assert (name.said, name.wanted, price.said, price.wanted) == (True, True, False, True)
    assert name.counts == scoring.SlotCounts(1, 1, 2, 1, 0)
    more = scored({"lines": [{"name": "a"}, {"name": "b"}]}, {"lines": [{"name": "a"}]})
    assert more.slots["lines[].name"].counts == scoring.SlotCounts(1, 2, 1, 0, 1)
    assert (more.slots["lines[].name"].said, more.slots["lines[].name"].wanted) == (True, True)


def test_fields_of_objects_have_their_own_slots() -> None:
    score = scored({"seller": {"name": "X"}}, {"seller": {"name": "Y"}, "title": "Mug"})
    assert set(score.slots) == {"seller.name", "title"}
    assert score.accuracy == 0.0
    assert score.expected == tuple(TASK.slots())


def test_errors_are_counted_by_kind_and_a_judges_pass_clears_them() -> None:
    page = "Mug for 5 EUR, was 7"
    failed = scored({"title": "Cup", "price": 7, "new": True}, {"title": "Mug", "price": 5}, page)
    assert metrics.compute_totals([failed])["errors"] == {"wrong_neighbour": 1, "hallucinated": 2}
    assert metrics.compute_field_rates([failed])["t.price"]["errors"] == {"wrong_neighbour": 1}
    slot = failed.slots["title"]
    assert (slot.errors, slot.passed) == (("hallucinated",), False)
    cleared = replace(failed, slots={"title": replace(slot, score=1.0, passed=True)})
    assert metrics.compute_totals([cleared])["errors"] == {}
    assert metrics.compute_field_rates([cleared])["t.title"]["fwt"] == 1.0


def test_critical_fields_decide_a_document() -> None:
    right = scored({"title": "Mug"}, {"title": "Mug", "price": 5})
    wrong = scored({"price": 5}, {"title": "Mug", "price": 5})
    none = scored({"price": 5}, {"price": 5})
    assert [s.critical_ok for s in (right, wrong, none)] == [True, False, None]
    assert metrics.compute_totals([right, wrong, none])["doc_crit_ok"] == 0.5
    assert metrics.compute_totals([none])["doc_crit_ok"] is None
    both = replace(right, critical=("title", "price"))
    assert (right.slots["price"].passed, both.critical_ok) == (False, False)


def test_the_first_object_in_a_text_is_scored() -> None:
    for text in ('So: {"title": "Mug"} or {"title": Cup}', '{"title": "Mug"}, {"title": "Cup"}'):
        score = scored(text, {"title": "Mug"})
        assert (score.json_valid, score.recovered, score.accuracy) == (False, True, 1.0)
    # Valid JSON is read whole, prose to 20,000.
    late = " " * 19_990 + '{"title": "Mug"}'
    assert scored(late, {"title": "Mug"}).accuracy == 1.0
    assert scored(f"So: {late}", {"title": "Mug"}).recovered is False
    assert scored(f"So: [{late}", {"title": "Mug"}).accuracy == 0.0


def test_labels_in_lists_of_objects_are_no_matrix() -> None:
    line = {"type": "object", "properties": {"unit": {"enum": ["kg", "pc"]}}}
    lines = {"lines": {"type": "array", "items": line}, "unit": line["properties"]["unit"]}
    schema = {"type": "object", "properties": lines}
    task = settings.build_settings(TaskSpec, VALUES | {"io_schema": schema, "rubric": {}}, "spec")
    text = '{"unit": "kg", "lines": [{"unit": "kg"}]}'
    example = Example("1", "t", "p", {"unit": "pc", "lines": [{"unit": "pc"}]})
    score = scoring.score_answer(example, Answer("1", "t", text, *REST), task, None)
    assert score.labels == {"unit": ("pc", "kg")}
    assert score.slots["lines[].unit"].errors == ("missing", "hallucinated")


def test_the_rubric_weighs_exact_fields() -> None:
    rubric = RUBRIC | {"scoring": {"field_exact_match_weight": 1}}
    task = settings.build_settings(TaskSpec, VALUES | {"rubric": rubric}, "spec")
    wanted = {"title": "Mug", "price": 5, "new": None}
    text = '{"title": "mug", "price": 6, "new": null}'
    score = scoring.score_answer(
        Example("1", "t", "p", wanted), Answer("1", "t", text, *REST), task, None
    )
    assert score.rubric == 0.5
    empty = scoring.score_answer(
        Example("1", "t", "p", {}), Answer("1", "t", "{}", *REST), task, None
    )
    assert empty.rubric == 0.0


def test_a_slot_made_by_hand_claims_nothing() -> None:
    slot = scoring.SlotScore(1.0, True, said=True, wanted=True)
    assert (slot.exact, slot.within, slot.errors, slot.counts) == (False, False, (), None)
    assert scored({}, {}).accuracy == 0.0
    missing = scoring.score_answer(Example("1", "t", "p", {"price": 1}), None, TASK, None)
    assert (missing.tokens_in, missing.tokens_out, missing.latency_ms) == (0, 0, 0)
    assert missing.slots["price"].exact is False


def test_proxies_are_summed() -> None:
    scores = [scored({"title": "Mug", "price": 9, "odd": "x"}, {"title": "Mug"}, "a Mug")] * 2
    found = metrics.compute_totals(scores)["proxies"]
    assert found == {
        "forbidden_keys": 0,
        "out_of_enum": 0,
        "ungrounded": 4,
        "looked_up": 6,
        "extra_entities": 0,
        "extra_keys": 2,
        "invented": 2,
        "ungrounded_share": 4 / 6,
    }
    assert metrics.compute_totals([scored("no", {})])["proxies"]["ungrounded_share"] is None


def test_cost_needs_prices() -> None:
    scores = [scored({}, {"title": "x"})] * 4
    assert metrics.compute_totals(scores)["cost_usd_per_1000"] is None
    assert metrics.compute_totals([], Prices(1, 1))["cost_usd_per_1000"] is None
    found = metrics.compute_totals(scores, Prices(tokens_in=2.0, tokens_out=10.0))
    assert found["cost_usd_per_1000"] == pytest.approx((100 * 2 + 10 * 10) / 1e6 * 1000)
    assert metrics.compute_totals(scores, Prices())["cost_usd_per_1000"] == 0.0
    assert (
        metrics.compute_totals(scores, Prices(tokens_in=10_000.0))["cost_usd_per_1000"] == 1000.0
    )


def test_arithmetic_is_counted_where_it_applies() -> None:
    rubric = {
        "checks": [{"id": "totals_equation"}, {"id": "line_items_sum"}],
        "scoring": {"arithmetic_checks_weight": 1},
    }
    task = settings.build_settings(
        TaskSpec, SPEC | {"base_model_id": "x", "rubric": rubric}, "spec"
    )
    right = {"subtotal": 1, "total": 1, "line_items": [{"line_total": 1}]}
    wrong = right | {"total": 2}
    pairs = [(right, right), (wrong, wrong), (wrong, {}), ({}, {})]
    scores = [
        scoring.score_answer(
            Example("1", "t", "p", wanted), Answer("1", "t", json.dumps(said), *REST), task, None
        )
        for said, wanted in pairs
    ]
    found = metrics.compute_totals(scores)
    assert found["total_consist"] == {
        "arith.line_items_sum": {"n": 3, "pass": 1.0, "reference_fails": 0},
        "arith.totals_equation": {"n": 3, "pass": 1 / 3, "reference_fails": 1},
    }
    assert list(found["total_consist"]) == ["arith.line_items_sum", "arith.totals_equation"]
    assert [s.rubric for s in scores] == [1.0, 0.5, 0.5, None]
    assert found["rubric_score"] == pytest.approx(2 / 3)


def test_lists_are_named_in_order() -> None:
    line = {"type": "array", "items": LINE}
    schema = {"type": "object", "properties": {"b": line, "a": line}}
    task = settings.build_settings(TaskSpec, VALUES | {"io_schema": schema, "rubric": {}}, "spec")
    said = Answer("1", "t", '{"b": [{"name": "x"}], "a": []}', *REST)
    score = scoring.score_answer(Example("1", "t", "p", {"b": [], "a": []}), said, task, None)
    twin = scoring.score_answer(
        Example("1", "s", "p", {"b": [], "a": [{"name": "y"}]}), said, task, None
    )
    assert list(metrics.compute_totals([score, twin])["li_align"]) == ["s.a[]", "s.b[]", "t.b[]"]


def test_everything_is_broken_down_by_five_keys() -> None:
    scores = [
        scored({"title": "x"}, {"title": "x"}, id="1", page_type="product", language="de"),
        scored("no", {"title": "x"}, id="2", page_type="listing", language="de"),
    ]
    keys = ("task", "page_type", "language", "domain", "stratum")
    groups = {key: metrics.group_scores(scores, key) for key in keys}
    assert metrics.compute_totals(groups["page_type"]["product"])["accuracy"] == 1.0
    assert metrics.compute_totals(groups["page_type"]["listing"])["accuracy"] == 0.0
    assert len(groups["language"]["de"]) == 2
    assert set(groups["stratum"]) == {"product|de", "listing|de"}
    assert set(groups["task"]) == {"t"}
    assert set(groups["domain"]) == {"d"}


def test_shared_levels_stand_below_the_rubric() -> None:
    shared = slotspec.SlotFile(slots={"title": "exact", "seller.name": "substring"})
    example = Example("1", "t", "p", {"title": "mug", "seller": {"name": "acme"}})
    text = '{"title": "a mug", "seller": {"name": "Acme Ltd"}}'
    said = Answer("1", "t", text, "stop", 1, 1, 1, 1)
    assert scoring.score_answer(example, said, TASK, None).accuracy == 0.5
    assert scoring.score_answer(example, said, TASK, None, shared).accuracy == 1.0


def test_an_answer_that_is_no_object() -> None:
    values = VALUES | {"io_schema": {"enum": ["YES", "NO"]}, "rubric": {}}
    task = settings.build_settings(TaskSpec, values, "spec")
    made = [
        scoring.score_answer(
            Example("1", "t", "p", wanted), Answer("1", "t", text, *REST), task, None
        )
        for wanted, text in (("YES", '"YES"'), ("YES", '"NO"'), ("NO", "NO"), ("NO", '"MAYBE"'))
    ]
    assert [s.accuracy for s in made] == [1, 0, 0, 0]
    assert metrics.build_confusion_matrices(made)["t.(answer)"]["counts"] == {
        "NO": {"(no answer)": 1, "(other)": 1},
        "YES": {"NO": 1, "YES": 1},
    }
    assert metrics.compute_totals(made)["errors"] == {"format": 2, "label": 1}


REST = ("stop", 1, 1, 1, 1)
SCALAR = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
SCALAR |= st.floats(allow_nan=False, allow_infinity=False)
INNER = st.dictionaries(st.sampled_from(["name", "price", "x"]), SCALAR, max_size=3)
ANSWER = st.dictionaries(
    st.sampled_from([*SCHEMA["properties"], "x", "lines[].name"]),
    SCALAR | INNER | st.lists(SCALAR | INNER, max_size=3),
    max_size=5,
)


@given(ANSWER | SCALAR, ANSWER)
def test_no_answer_breaks_the_scoring(said: Any, wanted: Any) -> None:
    score = scored(jsonio.canonical_json(said), wanted)
    assert 0.0 <= score.accuracy <= 1.0
    for slot in score.slots.values():
        assert (slot.passed is False) == bool(slot.errors)
        assert slot.passed is not True or slot.within
    totals = metrics.compute_totals([score])
    assert jsonio.parse_json(jsonio.canonical_json(totals)) == totals


@given(ANSWER)
def test_the_reference_is_right_beside_itself(wanted: Any) -> None:
    score = scored(jsonio.canonical_json(wanted), wanted)
    assert score.row_exact
    assert all(slot.exact and not slot.errors for slot in score.slots.values())
    assert score.proxies.extra_entities == 0


@pytest.mark.parametrize(
    ("part", "labels"),
    [
        (AlignedValue("red", "red"), ("red", "red")),
        (AlignedValue(None, "red"), ("red", "(null)")),
        (AlignedValue("red", None), ("(null)", "red")),
        (AlignedValue("red", ABSENT), ("(null)", "red")),
        (AlignedValue(NOTHING, "red"), ("red", "(no answer)")),
        (AlignedValue("pink", "red"), ("red", "(other)")),
        (AlignedValue(True, False), ("false", "true")),
        (AlignedValue("", None), ("(null)", "(null)")),
    ],
)
def test_labels(part: AlignedValue, labels: tuple[str, str]) -> None:
    assert (
        scoring.confusion_labels(part, frozenset(('"red"', '"blue"', "true", "false"))) == labels
    )


def test_the_macro_f1_leaves_null_out() -> None:
    pairs = [("red", "red"), ("red", "blue"), ("blue", "blue"), ("(null)", "(null)")]
    found = metrics.confusion_matrix(pairs)
    assert found["labels"]["red"] == {"n": 2, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["labels"].keys() == {"red", "blue"}
    assert metrics.confusion_matrix([("red", "blue")])["labels"]["red"]["precision"] is None
    assert metrics.confusion_matrix([("(null)", "red")])["macro_f1"] is None


@pytest.mark.parametrize("seed", range(20))
def test_scikit_learn_agrees_on_the_same_answers(seed: int) -> None:
    dice = random.Random(seed)
    wanted = [dice.choice(COLOURS) for _ in range(60)]
    said = [w if dice.random() < 0.6 else dice.choice(COLOURS) for w in wanted]
    scores = [scored({"colour": s}, {"colour": w}) for s, w in zip(said, wanted, strict=True)]
    ours, theirs = ([str(v) for v in side] for side in (said, wanted))
    names = ["blue", "green", "red"]
    micro = precision_recall_fscore_support(theirs, ours, labels=names, average="micro")
    found = metrics.compute_field_rates(scores)["t.colour"]
    assert [found[k] for k in ("precision", "recall", "f1")] == pytest.approx(micro[:3])
    assert found["pass"] == pytest.approx(accuracy_score(theirs, ours))
    matrix = metrics.build_confusion_matrices(scores)["t.colour"]
    each = precision_recall_fscore_support(theirs, ours, labels=names, average=None)
    for place, name in enumerate(names):
        rates = [matrix["labels"][name][k] for k in ("precision", "recall", "f1", "n")]
        assert rates == pytest.approx([column[place] for column in each])
    assert matrix["macro_f1"] == pytest.approx(each[2].mean())
    rows = ["(null)", *names]
    counted = [[matrix["counts"].get(w, {}).get(s, 0) for s in rows] for w in rows]
    assert counted == confusion_matrix(theirs, ours, labels=["None", *names]).tolist()
