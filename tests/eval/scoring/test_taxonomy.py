"""Why a slot failed: each word with the case that decides it."""

from typing import Any

import pytest

from sem.core.slotspec import SlotSpec
from sem.eval.scoring import taxonomy
from sem.eval.scoring.align import ABSENT, NOTHING, AlignedValue

PAGE = (
    "Kettle Pico 7 by Nuvogard, price 39.90 EUR, old price 49.90. Published 12 March 2024. Steel."
)
TEXT = taxonomy.index_input_text(PAGE)
STRING, NUMBER = {"type": ["string", "null"]}, {"type": "number"}
SIZE = {"enum": ["S", "M", None]}


@pytest.mark.parametrize(
    ("said", "wanted", "shape", "closed", "kind"),
    [
        (NOTHING, "Nuvogard", STRING, False, "format"),
        (NOTHING, None, STRING, False, "format"),
        (None, "Nuvogard", STRING, False, "missing"),
        ("", 39.9, NUMBER, False, "missing"),
        (None, "Zirkon", STRING, False, "truncated_evidence"),
        (None, "M", SIZE, True, "missing"),
        ("Steel", None, STRING, False, "wrong_neighbour"),
        ("Steel", ABSENT, STRING, False, "wrong_neighbour"),
        ("Zirkon", None, STRING, False, "hallucinated"),
        ("S", None, SIZE, True, "hallucinated"),
        ("nuvogard ", "Nuvogard", STRING, False, "normalisation"),
        ("39,90", 39.9, NUMBER, False, "normalisation"),
        ("€ 39,90", "39.90", STRING, False, "normalisation"),
        ("12 March 2024", "2024-03-12", STRING, False, "normalisation"),
        ("true", True, {"type": "boolean"}, True, "normalisation"),
        (["b", "A"], ["a", "b"], {}, False, "normalisation"),
        ("Steel", 39.9, NUMBER, False, "format"),
        ("XL", "M", SIZE, True, "format"),
        ("S", "M", SIZE, True, "label"),
        # Labels of label_enums alone.
        ("XL", "M", STRING, True, "label"),
        (49.9, 39.9, NUMBER, False, "wrong_neighbour"),
        (12.5, 39.9, NUMBER, False, "hallucinated"),
        ("Nuvogard", "Zirkon", STRING, False, "truncated_evidence"),
        ("Zirkon", "Nuvogard", STRING, False, "hallucinated"),
        (["Steel", "Zirkon"], ["Steel"], {}, False, "hallucinated"),
        (["Steel", "Kettle"], ["Steel"], {}, False, "wrong_neighbour"),
        ("Steel", "Nuvogard", {"$ref": "#/$defs/x"}, False, "wrong_neighbour"),
        ("Steel", "Nuvogard", None, False, "wrong_neighbour"),
    ],
)
def test_the_kind(said: Any, wanted: Any, shape: Any, closed: bool, kind: str) -> None:
    assert taxonomy.failure_kind(AlignedValue(said, wanted), shape, closed, TEXT) == kind
    assert kind in taxonomy.KINDS


@pytest.mark.parametrize(
    ("said", "wanted", "level", "same"),
    [
        (1, 1.0, "exact", True),
        ("Mug ", "mug", "exact", True),
        ("Mug", "Cup", "exact", False),
        ("1,234", "1234", "exact", False),  # two article numbers
        ("1,234", "1234", "numeric_tol", True),
        ("€ 1.234,50", 1234.5, "exact", True),
        ("€ 1.234,50", 1234.51, "numeric_tol", False),
        ("$ 5", "€ 5", "numeric_tol", False),
        (True, 1, "exact", False),
        ("TRUE", True, "exact", True),
        ("12.03.2024", "2024-03-12", "exact", False),
        ("12.03.2024", "2024-03-12", "date_norm", True),
        ("03/04/2024", "2024-04-03", "date_norm", False),
        ("soon", "later", "date_norm", False),
        (["a", "B"], ["b", "A"], "set_match", True),
        (["a"], ["a", "a"], "set_match", False),
        ([1.0], [1], "set_match", True),
        ({"a": 1}, {"a": 1.0}, "exact", True),
        ({"a": 1}, {"a": 2}, "exact", False),
        ("x", 5, "numeric_tol", False),
    ],
)
def test_the_same_in_another_spelling(said: Any, wanted: Any, level: str, same: bool) -> None:
    assert taxonomy.says_the_same(said, wanted, SlotSpec(level)) is same


def test_the_slots_date_order_counts() -> None:
    spec = SlotSpec("date_norm", day_first=True)
    assert taxonomy.says_the_same("03/04/2024", "2024-04-03", spec)
    assert taxonomy.says_the_same("03/04/2024", "2024-04-03") is False
    assert taxonomy.says_the_same("3 April 2024", "2024-04-03")


@pytest.mark.parametrize(
    ("said", "wanted", "spec", "within"),
    [
        (10.01, 10, SlotSpec("numeric_tol"), True),
        (10.02, 10, SlotSpec("numeric_tol"), False),
        (10010, 10000, SlotSpec("numeric_tol"), True),
        (10011, 10000, SlotSpec("numeric_tol"), False),
        ("€ 10,01", 10, SlotSpec("numeric_tol", unit="EUR"), True),
        ("€ 10,01", 10, SlotSpec("numeric_tol"), False),
        ("1,234 kg", 1234, SlotSpec("numeric_tol", unit="g", decimal_mark=","), True),
        (10.01, 10, SlotSpec("exact"), False),
        (10.01, 10, SlotSpec("numeric_tol", tolerance=0.001), False),
        (10.01, 10, SlotSpec("numeric_tol", relative=1e-6), False),
        ("x", 10, SlotSpec("numeric_tol"), False),
    ],
)
def test_the_default_tolerance(said: Any, wanted: Any, spec: SlotSpec, within: bool) -> None:
    assert taxonomy.is_within(said, wanted, spec) is within
