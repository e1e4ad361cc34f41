"""Each value of an answer: where it stands, how sure it is, whether the page holds it."""

import json

import pytest

from sem.core import settings
from sem.core.taskspec import TaskSpec
from sem.package.serve import slot_readings

SPEC = settings.build_settings(
    TaskSpec,
    {
        "task_id": "t",
        "task_version": "1.0.0",
        "base_model_id": "x",
        "system_prompt": "s",
        "instruction_template": "{{input_text}}",
        "io_schema": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "title": {"type": "string"},
                "price": {"type": ["number", "null"]},
                "currency": {"enum": ["EUR", "USD"]},
                "stock": {"type": "boolean"},
                "seller": {"type": "object", "properties": {"name": {"type": "string"}}},
                "parts": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"sku": {"type": "string"}}},
                },
            },
        },
        "rubric": {},
        "eval_split": {},
    },
    "spec",
)
PAGE = "Red clay mug, 1.234,50 €. Sold by Tonwerk. Parts: A-17, B-20."


@pytest.mark.parametrize(
    ("answer", "absent"),
    [
        ({"title": "Red Clay Mug", "price": 1234.5, "currency": "USD", "stock": True}, []),
        ({"title": "Blue mug"}, ["title"]),
        ({"price": 31337}, ["price"]),
        ({"price": None, "title": ""}, []),
        ({"currency": "BTC"}, []),
        ({"seller": {"name": "Evil"}}, ["seller.name"]),
        ({"parts": [{"sku": "A-17"}, {"sku": "C-99"}]}, ["parts[1].sku"]),
    ],
)
def test_a_value_that_the_page_does_not_hold_is_named(answer, absent) -> None:
    assert slot_readings.ungrounded_slots(answer, SPEC, PAGE) == absent


TEXTS = {
    '{"a":1,"b":"x"}': {"a": "1", "b": '"x"'},
    ' { "a" : [ 1 , {"b":null} , [true] ] } ': {"a[0]": "1", "a[1].b": "null", "a[2][0]": "true"},
    '"alone"': {"": '"alone"'},
    "[]": {},
    "{}": {},
    '[{"k\\"ey":-1.5e3}]': {'[0].k"ey': "-1.5e3"},
    '{"\\u00e9":"\\ud83d\\ude00"}': {"é": '"\\ud83d\\ude00"'},
}


@pytest.mark.parametrize("text", TEXTS)
def test_every_scalar_is_where_its_span_says(text) -> None:
    spans = slot_readings.find_value_spans(text)

    assert {span.slot: text[span.start : span.end] for span in spans} == TEXTS[text]
    for span in spans:
        json.loads(text[span.start : span.end])


@pytest.mark.parametrize("text", ["", "{", '{"a":}', "[1,]", "{'a':1}", "nul", '{"a":1}x'])
def test_a_text_that_is_no_json_has_no_spans(text) -> None:
    with pytest.raises(ValueError, match="."):
        slot_readings.find_value_spans(text)


def test_the_confidence_of_a_slot_is_the_mean_over_its_own_tokens() -> None:
    text = '{"price":12.5,"title":"Mug"}'
    # {"price":|12|.5|,"title":|"Mu|g"|}
    ends, probabilities = (9, 11, 13, 22, 25, 27, 28), (1.0, 0.5, 0.7, 1.0, 0.2, 0.6, 1.0)
    readings = slot_readings.read_answer_slots(
        text, json.loads(text), SPEC, "Mug 12,50", ends, probabilities
    )

    by_slot = {reading.slot: reading for reading in readings}
    assert by_slot["price"].confidence == pytest.approx(0.6)
    assert by_slot["title"].confidence == pytest.approx(0.4)
    assert by_slot["price"].grounded
    assert by_slot["title"].grounded


def test_a_token_across_two_values_counts_for_both() -> None:
    text = "[1,2]"
    readings = slot_readings.read_answer_slots(text, [1, 2], SPEC, "", (1, 4, 5), (1.0, 0.5, 1.0))

    assert [reading.confidence for reading in readings] == [0.5, 0.5]


def test_without_probabilities_no_confidence_is_told() -> None:
    (reading,) = slot_readings.read_answer_slots('{"price":1}', {"price": 1}, SPEC, "1")

    assert reading.as_json() == {"value": 1, "confidence": None, "grounded": True}
