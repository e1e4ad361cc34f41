"""A slot may have more than one right answer: an answer is beside the nearest of them."""

import json
from typing import Any

import pytest
from toy import SPEC

from sem.core import settings
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.dataset.config import TaskOptions
from sem.dataset.store import examples_table, rows
from sem.eval.answers import golden
from sem.eval.answers.answers import Answer
from sem.eval.scoring import scoring

TEXT = {"type": ["string", "null"]}
SELLER = {"type": "object", "properties": {"name": TEXT, "city": TEXT}}
SCHEMA = {
    "type": "object",
    "properties": {
        "sku": TEXT,
        "price": {"type": ["number", "null"]},
        "brand": TEXT,
        "day": TEXT,
        "tags": {"type": "array", "items": TEXT},
        "seller": SELLER,
        "lines": {"type": "array", "items": SELLER},
    },
}
SLOTS = {"day": "date_norm", "price": {"level": "numeric_tol", "tolerance": 0.01}}
WANTED = {
    "sku": "924 9556",
    "price": 23450.0,
    "brand": "Infinix",
    "day": "2024-03-12",
    "tags": ["a"],
    "seller": {"name": "Ann", "city": "Ulm"},
    "lines": [{"name": "x", "city": "y"}],
}


def scored(said: Any, alternatives: Any, wanted: Any = None, schema: Any = None):
    values = SPEC | {"base_model_id": "x", "io_schema": schema or SCHEMA}
    values["rubric"] = {"slots": SLOTS if schema is None else {}}
    spec = settings.build_settings(TaskSpec, values, "spec")
    answer = Answer("1", "price", json.dumps(said), "stop", 1, 1, 1, 1)
    page = "924/9556 23.450 Infinix Tikkers " + json.dumps([WANTED, alternatives])
    meta = {"alternatives": alternatives}
    example = Example("1", "price", page, WANTED if wanted is None else wanted, meta)
    return scoring.score_answer(example, answer, spec, None)


@pytest.mark.parametrize(
    ("changes", "alternatives"),
    [
        # Of a published benchmark 10 of 15 cells agree with one reference, 15 with any of them.
        ({"sku": "924/9556"}, {"sku": ["924 9556", "924/9556"]}),
        ({"price": 23.45}, {"price": ["23450", "23.450"]}),
        ({"brand": None}, {"brand": [None, "Infinix"]}),
        # Cleaned as references are.
        ({"brand": "Tikkers"}, {"brand": ["Tikkers "]}),
        ({"brand": "Tikkers"}, {"brand": "Tikkers"}),
        ({"day": "13 March 2024"}, {"day": ["2024-03-13"]}),
        ({"tags": ["b", "c"]}, {"tags": [["c", "b"]]}),
        ({"seller": {"name": "Bob", "city": "Ulm"}}, {"seller.name": ["Bob"]}),
        (
            {"seller": {"name": "Bob", "city": "Rom"}},
            {"seller": [{"name": "Bob", "city": "Rom"}]},
        ),
        ({"lines": [{"name": "z", "city": "y"}]}, {"lines": [[{"name": "z", "city": "y"}]]}),
        ({"sku": "B", "brand": "C"}, {"sku": ["B"], "brand": ["C"]}),
        # a column of text, as Parquet files have it.
        ({"sku": "B"}, '{"sku": ["B"]}'),
    ],
)
def test_any_of_the_right_answers_is_right(changes, alternatives):
    found = scored(WANTED | changes, alternatives)

    assert (found.accuracy, found.row_exact) == (1.0, True)
    assert scored(WANTED, alternatives).row_exact
    assert not scored(WANTED | changes, {}).row_exact


@pytest.mark.parametrize(
    ("said", "alternatives"),
    [
        (WANTED | {"sku": "B"}, {"brand": ["B"]}),  # another slot's
        (WANTED | {"sku": "B"}, {"nothing": ["B"]}),
        (WANTED | {"sku": "B"}, "no JSON"),
        (WANTED | {"sku": "B"}, ["B"]),
        (WANTED | {"sku": "B"}, {"sku": []}),
        (
            # Half of one reference and half of another is neither.
            WANTED | {"seller": {"name": "Bob", "city": "Ulm"}},
            {"seller": [{"name": "Bob", "city": "Rom"}]},
        ),
    ],
)
def test_what_no_alternative_says_stays_wrong(said, alternatives):
    assert not scored(said, alternatives).row_exact


def test_a_task_of_one_word_may_have_two_right_words():
    found = [
        scored(said, {"(answer)": ["NO"]}, "YES", {"enum": ["YES", "NO", "MAYBE"]}).accuracy
        for said in ("YES", "NO", "MAYBE")
    ]

    assert found == [1.0, 1.0, 0.0]


def test_an_answer_that_is_none_is_wrong_beside_every_reference():
    spec = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x"}, "spec")
    example = Example("1", "price", "p", {"title": "a"}, {"alternatives": {"title": [None]}})

    assert scoring.score_answer(example, None, spec, None).accuracy == 0.0


@pytest.mark.parametrize(
    ("alternatives", "note"),
    [
        ({"title": ["a"]}, None),
        ({}, None),
        (None, None),
        ({"titel": ["a"]}, "alternatives_of_no_slot"),
        (["a"], "alternatives_not_an_object"),
    ],
)
def test_cleaning_counts_alternatives_that_no_slot_has(alternatives, note):
    spec = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x"}, "spec")
    row = examples_table.RawRow(
        id="1",
        task="price",
        input_text="<p>Mug</p>",
        reference='{"title": "Mug", "price": 1}',
        metadata=json.dumps({"alternatives": alternatives, "domain": "a.example"}),
    )

    made = rows.prepare_row(row, {"price": spec}, DefaultOptions())

    assert [n for n in made.notes if n.startswith("alternatives")] == ([note] if note else [])


class DefaultOptions:
    def of(self, task: str) -> TaskOptions:
        return TaskOptions()


def test_a_golden_question_names_its_further_answers():
    spec = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x"}, "spec")
    item = {"input_text": "p", "answer": {"title": "a", "price": 1}}

    made = golden.parse_golden_entry(
        item | {"alternatives": {"title": ["b"]}}, "x", 1, {"price": spec}
    )

    assert made.alternatives == {"title": ["b"]}


def test_a_published_benchmarks_own_answers_are_right(shared):
    # Prices and article numbers that its annotators accept in two readings.
    import duckdb
    from paths import ROOT

    from sem.core import taskspec

    spec = taskspec.load_taskspec(ROOT / "configs" / "pages" / "tasks" / "productpage.yaml")
    path = shared / "data" / "html" / "pages.parquet"
    query = f"SELECT alternatives, reference FROM '{path}' WHERE alternatives <> '{{}}'"
    agreed = []
    for text, reference in duckdb.sql(query).fetchall():
        wanted, alternatives = json.loads(reference), json.loads(text)
        for slot, values in alternatives.items():
            for value in values:
                said = wanted | {slot: float(value) if slot == "price" else value}
                answer = Answer("1", "productpage", json.dumps(said), "stop", 1, 1, 1, 1)
                for meta in ({}, {"alternatives": text}):
                    example = Example("1", "productpage", "p", wanted, meta)
                    agreed.append(
                        scoring.score_answer(example, answer, spec, None).slots[slot].passed
                    )

    alone, any_of = agreed[::2], agreed[1::2]
    assert sum(alone) < len(alone) == len(any_of) == sum(any_of)
