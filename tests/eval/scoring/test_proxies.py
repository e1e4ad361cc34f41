"""Hallucination proxies: keys, labels, values and objects out of nowhere."""

from typing import Any

import pytest
from toy import SPEC

from sem.core import settings
from sem.core.taskspec import TaskSpec
from sem.eval.scoring import align, proxies, taxonomy
from sem.eval.scoring.proxies import Proxies

TEXT = taxonomy.index_input_text("Blue mug, 12.50 EUR, by Nuvogard; spoon 3.00")
LINE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "unit": {"enum": ["pc", "kg", None]}},
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "$defs": {"line": LINE},
    "properties": {
        "title": {"type": "string"},
        "price": {"type": "number"},
        "colour": {"type": ["string", "null"]},
        "kind": {"const": "mug"},
        "in_stock": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "free": {"type": "object"},
        "loose": {"type": "object", "properties": {"a": {"type": "string"}}},
        "named": {"type": "object", "patternProperties": {"^x": {}}, "properties": {"a": {}}},
        "seller": {"type": "object", "properties": {"name": {"type": "string"}}},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
}


def measured(said: Any, wanted: Any = None, **rubric: Any) -> Proxies:
    values = SPEC | {
        "base_model_id": "x",
        "io_schema": SCHEMA,
        "label_enums": {"colour": ["blue", "red"]},
        "rubric": rubric,
    }
    spec = settings.build_settings(TaskSpec, values, "spec")
    aligned = align.align_answer(said, said if wanted is None else wanted, spec.slots())
    return proxies.measure_proxies(said, spec, TEXT, aligned)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, Proxies()),
        (align.NOTHING, Proxies()),
        ({"title": "Blue mug"}, Proxies(looked_up=1)),
        ({"title": "Red mug"}, Proxies(looked_up=1, ungrounded=1)),
        ({"title": ""}, Proxies()),
        ({"title": None}, Proxies()),
        ({"price": 12.5}, Proxies(looked_up=1)),
        ({"price": 13}, Proxies(looked_up=1, ungrounded=1)),
        # a label is not looked for in the page.
        ({"colour": "blue"}, Proxies()),
        ({"colour": "green"}, Proxies(out_of_enum=1)),
        ({"colour": None}, Proxies()),
        ({"kind": "mug"}, Proxies()),
        ({"kind": "cup"}, Proxies(out_of_enum=1)),
        ({"in_stock": True}, Proxies()),
        ({"in_stock": "yes"}, Proxies(out_of_enum=1)),
        ({"title": True}, Proxies()),
        ({"tags": ["mug", "vase"]}, Proxies(looked_up=2, ungrounded=1)),
        ({"invented": 12.5}, Proxies(forbidden_keys=1, looked_up=1)),
        ({"a": 1, "b": 2}, Proxies(forbidden_keys=2, looked_up=2, ungrounded=2)),
        ({"free": {"any": "mug"}}, Proxies(looked_up=1)),
        ({"loose": {"b": "mug"}}, Proxies(looked_up=1)),
        ({"named": {"b": "mug"}}, Proxies(looked_up=1)),
        ({"lines": [{"name": "mug", "unit": "pc"}]}, Proxies(looked_up=1)),
        ({"lines": [{"unit": "m"}, {"unit": None}]}, Proxies(out_of_enum=1)),
        ({"lines": [{"sku": "mug"}, {"sku": "mug"}]}, Proxies(forbidden_keys=2, looked_up=2)),
        ({"title": {"x": "mug"}}, Proxies(looked_up=1)),
        ("mug", Proxies(looked_up=1)),
    ],
)
def test_one_answer(said: Any, found: Proxies) -> None:
    assert measured(said) == found


def test_the_rubric_may_close_an_open_object() -> None:
    said = {"loose": {"b": "mug"}, "free": {"any": "mug"}, "named": {"x1": "mug"}}
    assert measured(said, forbid_additional_keys=True).forbidden_keys == 1
    assert measured(said, forbid_additional_keys=False).forbidden_keys == 0


@pytest.mark.parametrize(
    ("said", "wanted", "extra"),
    [
        ({"lines": [{"name": "mug"}]}, {"lines": [{"name": "mug"}]}, 0),
        ({"lines": [{"name": "mug"}, {"name": "cup"}]}, {"lines": [{"name": "mug"}]}, 1),
        ({"lines": [{"name": "mug"}]}, {"lines": []}, 1),
        ({"lines": []}, {"lines": [{"name": "mug"}]}, 0),
        ({"seller": {"name": "mug"}}, {"seller": None}, 1),
        ({"seller": {"name": "mug"}}, {"seller": {"name": "cup"}}, 0),
        ({"tags": ["a", "b"]}, {"tags": ["A"]}, 1),
        ({"tags": ["a", "a"]}, {"tags": ["a"]}, 1),
        ({"tags": ["a"]}, {"tags": None}, 1),
        ({"tags": ["a"]}, {"title": "x"}, 1),
        ({"tags": [1.0]}, {"tags": [1]}, 0),
        ({"tags": "a"}, {"tags": ["b"]}, 0),
    ],
)
def test_extra_entities(said: Any, wanted: Any, extra: int) -> None:
    assert measured(said, wanted).extra_entities == extra
