"""What is said of each contributed example, and of its group."""

import json
from types import SimpleNamespace

from sem.core.example import Example
from sem.preview.contribution.overlap import Overlap
from sem.preview.lora import advice
from sem.preview.lora.advice import AdviceContext
from sem.preview.lora.gradient_likeness import GradientLikeness

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "price": {"type": "number"},
        "mood": {"enum": ["glad", "sad"]},
        "gist": {"type": "string"},
    },
}
TASKS = {"price": SimpleNamespace(io_schema=SCHEMA)}
NONE: frozenset[int] = frozenset()
SCORES = [-0.2, -0.21, -0.22, -0.23, -0.24, -0.25]


def page(number: int, **other: object) -> Example:
    answer = {
        "title": f"Lamp {number}",
        "price": 100.5 + number,
        "mood": "glad",
        "gist": "something to read by",
        **other,
    }
    text = f"Buy Lamp {number} for {100.5 + number} now"
    return Example(f"r{number}", "price", text, answer, {"domain": f"d{number % 2}.example"})


def known(overlap: Overlap | None = None, **more: object) -> AdviceContext:
    base = [page(number) for number in range(50, 90)]
    told = {"pulls": {}, "scores": SCORES, **more}
    return AdviceContext(TASKS, base, overlap or Overlap(*[NONE] * 4), **told)


def test_each_reason_and_the_first_of_them_counts() -> None:
    given = [
        page(0),
        page(1),
        page(2),
        page(3),
        page(4, title="Chair"),
        page(5, gist="of another mind"),
        page(6, mood="sad"),
        page(7),
        page(8, title="Sofa"),
    ]
    overlap = Overlap(frozenset([1]), NONE, frozenset([1, 2]), frozenset([3]))
    pulls = {
        "r7": GradientLikeness(-3.0, -0.5),
        "r0": GradientLikeness(-0.21, 0.4),
        "r8": GradientLikeness(-9.0, 0.1),
    }
    given.append(page(9))
    found = advice.advise_examples(given, known(overlap, pulls=pulls, too_long=frozenset(["r9"])))
    assert [(one.advice, one.reason) for one in found] == [
        ("keep", ""),
        ("drop", "in_benchmark"),
        ("drop", "known_already"),
        ("inspect", "contradicts_base"),
        ("inspect", "value_not_in_input"),
        # No base row copies its gist.
        ("keep", ""),
        # Chosen from a list: no page need spell it.
        ("keep", ""),
        ("inspect", "answer_unlikely"),
        ("inspect", "value_not_in_input"),
        ("drop", "too_long"),
    ]
    assert found[4].slots == ("title",)
    assert found[7].pull == GradientLikeness(-3.0, -0.5)


def test_with_few_base_rows_no_slot_is_known_to_copy() -> None:
    few = AdviceContext(TASKS, [page(n) for n in range(50, 69)], Overlap(*[NONE] * 4), {}, SCORES)
    assert advice.advise_examples([page(4, title="Chair")], few)[0].advice == "keep"


def test_with_few_scores_nothing_is_an_outlier() -> None:
    pulls = {"r7": GradientLikeness(-30.0, 0.0)}
    assert (
        advice.advise_examples([page(7)], known(pulls=pulls, scores=SCORES[:3]))[0].advice
        == "keep"
    )
    assert advice.advise_examples([page(7)], known(pulls=pulls))[0].reason == "answer_unlikely"


def test_the_document_counts_groups_and_shows_the_least_likely_first() -> None:
    given = [page(0), page(1, title="Chair"), page(2, title="Sofa"), page(4), page(3)]
    pulls = {
        "r2": GradientLikeness(-2.0, -0.25),
        "r0": GradientLikeness(-0.2, 0.75),
        "r3": GradientLikeness(-0.2, 0.125),
    }
    made = advice.advice_json(advice.advise_examples(given, known(pulls=pulls)), 1)
    assert made["advice"] == {"keep": 3, "drop": 0, "inspect": 2}
    assert made["reasons"] == {"value_not_in_input": 2}
    assert made["looked_at_by_the_model"] == 3
    assert [one["where"] for one in made["to_look_at"]] == ["r2"]
    assert made["by_group"] == {
        "d0.example": {
            "rows": 3,
            "keep": 2,
            "drop": 0,
            "inspect": 1,
            "looked_at": 2,
            "likeness": 0.25,
        },
        "d1.example": {
            "rows": 2,
            "keep": 1,
            "drop": 0,
            "inspect": 1,
            "looked_at": 1,
            "likeness": 0.125,
        },
    }
    assert json.loads(json.dumps(made)) == made
