"""What is said beyond the input and the reference costs something, in every figure that it can."""

import json
from typing import Any

import pytest
from toy import SPEC

from sem.core import settings, slotspec
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.answers.answers import Answer
from sem.eval.scoring import metrics, scoring

PAGE = (
    "URL: https://a.example/p/1\nBlue Mug 3, steel. Now 9.50 USD. Sold by Nuvogard, 12 March 2024."
)
TEXT = {"type": "string"}
FIELDS = {
    "title": TEXT,
    "price": {"type": ["number", "null"]},
    "day": TEXT,
    "tags": {"type": "array", "items": TEXT},
    "about": TEXT,
    "size": {"enum": ["S", "M"]},
    "seller": {"type": "object", "properties": {"name": TEXT}},
    "lines": {"type": "array", "items": {"type": "object", "properties": {"name": TEXT}}},
    "free": {"type": "object"},
}
SLOTS = {
    "title": {"level": "substring"},
    "price": {"level": "numeric_tol", "tolerance": 0.5},
    "day": {"level": "date_norm"},
    "tags": {"level": "set_match", "threshold": 0.5},
    "about": {"level": "llm_similarity"},
}
WANTED = {
    "title": "Mug 3",
    "price": 9.5,
    "day": "2024-03-12",
    "tags": ["steel"],
    "about": "A blue mug.",
    "size": "M",
    "seller": {"name": "Nuvogard"},
    "lines": [{"name": "Mug 3"}],
    "free": {"any": "thing"},
}


def scored(said: Any, wanted: Any = None, schema: dict | None = None, **rubric: Any):
    values = SPEC | {
        "base_model_id": "x",
        "io_schema": schema or {"type": "object", "properties": FIELDS},
        "rubric": {"slots": SLOTS, **rubric},
    }
    spec = settings.build_settings(TaskSpec, values, "spec")
    text = json.dumps(said)
    answer = Answer("1", "price", text, "stop", 1, 1, 1, 1)
    example = Example("1", "price", PAGE, WANTED if wanted is None else wanted)
    return scoring.score_answer(example, answer, spec, lambda one, other: 1.0)


@pytest.mark.parametrize(
    "said",
    [
        WANTED,
        WANTED | {"day": "12 March 2024"},
        WANTED | {"day": "March 12th, 2024"},
        WANTED | {"price": 9.50},
        # Within the slot's tolerance.
        WANTED | {"price": 9.9},
        WANTED | {"title": "Blue Mug 3"},  # stands there
        # More than was asked, and it stands there.
        WANTED | {"tags": ["steel", "blue"]},
        # a free text may use other words.
        WANTED | {"about": "Steel, for coffee."},
    ],
)
def test_an_answer_that_says_nothing_beyond_is_row_exact(said):
    found = scored(said)

    assert (found.proxies.extra_keys, found.proxies.invented) == (0, 0)
    assert (found.accuracy, found.row_exact) == (1.0, True)


@pytest.mark.parametrize(
    ("said", "extra_keys", "invented"),
    [
        # A perfect answer plus two invented keys was row-exact, with f1 1.0.
        (WANTED | {"colour": "red", "made_in": "Peru"}, 2, 0),
        # a value of the page under a key of nobody's.
        (WANTED | {"price_old": 9.5}, 1, 0),
        (WANTED | {"seller": {"name": "Nuvogard", "vat": "DE1"}}, 1, 0),
        (WANTED | {"lines": [{"name": "Mug 3", "sku": "77"}]}, 1, 0),
        (WANTED | {"title": "Mug 3, dishwasher safe"}, 0, 1),
        (WANTED | {"tags": ["steel", "organic"]}, 0, 1),
    ],
)
def test_what_is_made_up_is_not_row_exact_though_every_slot_passes(said, extra_keys, invented):
    found = scored(said)

    assert found.accuracy == 1.0
    assert (found.proxies.extra_keys, found.proxies.invented) == (extra_keys, invented)
    assert not found.row_exact
    assert metrics.compute_totals([found])["row_exact"] == 0.0
    assert found.rubric < scored(WANTED).rubric


@pytest.mark.parametrize(
    ("said", "invented"),
    [
        (WANTED | {"seller": {"name": "Zirkon"}}, 1),
        (WANTED | {"price": 14.25}, 1),
        (WANTED | {"day": "2024-03-13"}, 1),
        (WANTED | {"free": {"any": "thing", "more": "Zirkon"}}, 1),
        # a label is chosen, not copied.
        (WANTED | {"size": "S"}, 0),
    ],
)
def test_a_wrong_value_is_invented_where_the_page_does_not_hold_it(said, invented):
    found = scored(said)

    assert found.proxies.invented == invented
    assert not found.row_exact


def test_a_key_that_the_schema_only_allows_is_as_the_reference_has_it_or_extra():
    schema = {"type": "object", "properties": {"a": TEXT}, "patternProperties": {"^x": TEXT}}
    wanted = {"a": "steel", "x1": "blue"}

    found = [
        scored(said, wanted, schema).row_exact
        for said in (wanted, {"a": "steel"}, {"a": "steel", "x1": "Mug"}, wanted | {"x2": "Mug"})
    ]

    assert found == [True, False, False, False]


def test_an_extra_key_counts_as_said_and_spurious():
    found = metrics.compute_totals([scored(WANTED | {"colour": "red", "made_in": "Peru"})])

    right = metrics.compute_totals([scored(WANTED)])
    assert (right["precision"], right["f1"], right["spurious_values"]) == (1.0, 1.0, 0)
    assert found["precision"] < 1.0
    assert found["f1"] < 1.0
    assert (found["recall"], found["spurious_values"]) == (1.0, 2)


def test_the_rubric_score_is_there_without_being_asked_for():
    assert scored(WANTED).rubric == 1.0
    assert scored(WANTED, scoring={}).rubric is None
    assert scored(WANTED | {"colour": "red"}, scoring={"schema_validity_weight": 1}).rubric == 1.0


def test_shipped_settings_weigh_what_is_made_up(shared):
    from paths import ROOT

    shipped = slotspec.load_slot_levels(ROOT / "configs" / "judge_slots.yaml")

    assert shipped.scoring == slotspec.SCORING
    assert sum(shipped.scoring.values()) == pytest.approx(1.0)


def test_an_unknown_weight_is_refused_with_the_nearest(tmp_path):
    from sem.core import files
    from sem.core.errors import SemError

    path = tmp_path / "judge_slots.yaml"
    files.write_file(path, "scoring: {no_extra_key_weight: 1}")

    with pytest.raises(SemError, match="did you mean 'no_extra_keys_weight'"):
        slotspec.load_slot_levels(path)
