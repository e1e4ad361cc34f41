"""The six levels, each with the counter-example that decides it."""

import pytest

from sem.core.taskspec import SlotSpec
from sem.eval import slots

CASES = [
    ("exact", True, 1, 0.0),  # true is not 1
    ("exact", "1", 1, 0.0),
    ("exact", 1.0, 1, 1.0),  # one JSON number, two spellings
    ("exact", "é", "é", 1.0),  # composed and decomposed
    ("exact", {"b": 1, "a": [1, 2]}, {"a": [1, 2], "b": 1}, 1.0),
    ("exact", [1, 2], [2, 1], 0.0),
    ("substring", "The Blue  MUG, 2024", "blue mug", 1.0),
    ("substring", "mug", "blue mug", 0.0),
    ("substring", "x" * 5000 + "blue mug", "blue mug", 0.0),  # a pasted page
    ("numeric_tol", 20, 19.99, 1.0),  # |20 - 19.99| > 0.01 in floats
    ("numeric_tol", 20.02, 20.0, 0.0),
    ("numeric_tol", True, 1, 0.0),
    ("numeric_tol", "inf", 1, 0.0),
    ("set_match", ["b", "a"], ["a", "b"], 1.0),
    ("set_match", ["a", "a"], ["a"], 0.5),  # set() would call them equal
    ("set_match", ["a"], ["a", "b"], 0.5),
    ("date_norm", "12 March 2024", "2024-03-12", 1.0),
    ("date_norm", "March 2024", "2024-03-01", 0.0),  # names no day
    ("date_norm", "2024-03-12T10:00:00Z", "2024-03-12", 1.0),
    ("llm_similarity", "Same  text", "same text", 1.0),
]


@pytest.mark.parametrize(("level", "said", "wanted", "score"), CASES)
def test_levels(level: str, said: object, wanted: object, score: float) -> None:
    assert slots.score(said, wanted, SlotSpec(level, tolerance=0.01)) == score


@pytest.mark.parametrize("level", sorted({case[0] for case in CASES}))
@pytest.mark.parametrize(
    ("said", "wanted", "score"), [(None, None, 1), ("", None, 1), (None, "x", 0), ("x", None, 0)]
)
def test_null_is_right_only_where_null_is_wanted(level, said, wanted, score) -> None:
    assert slots.score(said, wanted, SlotSpec(level)) == score


def test_free_text_without_a_scorer_is_unscored_not_zero() -> None:
    assert slots.score("one", "other", SlotSpec("llm_similarity")) is None


def test_a_similarity_scorer_decides_free_text() -> None:
    spec = SlotSpec("llm_similarity")
    assert slots.score("one", "other", spec, lambda a, b: 1.7) == 1.0
    assert slots.score("one", "other", spec, lambda a, b: -0.2) == 0.0
