"""Repaired answers: mended where json-repair finds an object, left alone elsewhere."""

import pytest

from sem.eval.answers.answers import Answer
from sem.eval.report import compare

CASES = {
    "cut": ('{"a": 1, "b": "x', '{"a": 1, "b": "x"}'),
    "fenced": ('```json\n{"a": 1}\n```', '{"a": 1}'),
    "valid is not touched": ('{"b":2,"a":1}', '{"b":2,"a":1}'),
    "prose stays prose": ("There is no price here.", "There is no price here."),
    "a list is no object": ("[1, 2", "[1, 2"),
    "single quotes": ("{'a': 'é'}", '{"a": "é"}'),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_repaired(name):
    text, expected = CASES[name]

    assert compare.repair_answer(Answer("1", "t", text, "stop", 1, 1, 1, 1)).text == expected
