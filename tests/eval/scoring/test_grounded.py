"""The check after the model: schema first, then every value must stand on the page."""

import pytest

from sem.core import settings
from sem.core.taskspec import TaskSpec
from sem.eval.scoring import grounded

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
    ("answer", "wrong"),
    [
        ({"title": "Red Clay Mug", "price": 1234.5, "currency": "USD", "stock": True}, []),
        ({"title": "Blue mug"}, ["ungrounded title"]),
        ({"price": 31337}, ["ungrounded price"]),
        ({"price": None, "title": ""}, []),
        ({"currency": "BTC"}, ["schema currency"]),
        ({"leak": "x"}, ["schema (root)"]),
        ("prose", ["schema (root)"]),
        ({"seller": {"name": "Evil"}}, ["ungrounded seller.name"]),
        ({"parts": [{"sku": "A-17"}, {"sku": "C-99"}]}, ["ungrounded parts[].sku"]),
        ({"title": PAGE * 100}, ["length title"]),
    ],
)
def test_only_what_the_page_says_is_accepted(answer: object, wrong: list[str]) -> None:
    found = grounded.ungrounded_problems(answer, SPEC, PAGE)
    assert [f"{problem.kind} {problem.slot}" for problem in found] == wrong
