"""Nested objects opened, lists of objects aligned: what stands beside what."""

from typing import Any

import pytest

from sem.core.slotspec import SlotSpec
from sem.eval.scoring import align
from sem.eval.scoring.align import ABSENT, NOTHING, Items

TEXT, NUMBER = SlotSpec(), SlotSpec("numeric_tol", tolerance=0.01)
LEVELS = {
    "total": NUMBER,
    "seller.name": SlotSpec(critical=True),
    "seller.address.city": TEXT,
    "lines[].name": TEXT,
    "lines[].price": NUMBER,
    "lines[].tax.rate": NUMBER,
}
A, B = {"name": "A", "price": 1}, {"name": "B", "price": 2}
C, D = {"name": "C", "price": 3}, {"name": "D", "price": 4}


def beside(said: Any, wanted: Any, levels: dict[str, SlotSpec] = LEVELS) -> dict[str, list]:
    found = align.align_answer(said, wanted, levels)
    return {pair.name: [(p.said, p.wanted) for p in pair.parts] for pair in found.pairs}


def lines(said: Any, wanted: Any) -> tuple[list, list, Items]:
    found = align.align_answer({"lines": said}, {"lines": wanted}, LEVELS)
    names, prices = (
        sorted(((p.said, p.wanted) for p in found.parts.get(f"lines[].{key}", [])), key=repr)
        for key in ("name", "price")
    )
    return names, prices, found.items["lines[]"]


@pytest.mark.parametrize(
    ("said", "wanted", "parts"),
    [
        ({"total": 1}, {"total": 1}, {"total": [(1, 1)]}),
        ({}, {"total": 1}, {"total": [(None, 1)]}),
        ({}, {"total": None}, {"total": [(None, None)]}),
        ({"total": 1}, {}, {"total": [(1, ABSENT)]}),
        # Writing every optional key as null earns nothing.
        ({"total": None}, {}, {}),
        ({"total": " "}, {}, {}),
        ({}, {}, {}),
        ({"other": 1}, {"another": 2}, {}),
        ({"seller": {"name": "x"}}, {"seller": {"name": "y"}}, {"seller.name": [("x", "y")]}),
        ({"seller": None}, {"seller": {"name": "y"}}, {"seller.name": [(None, "y")]}),
        ({"seller": "y"}, {"seller": {"name": "y"}}, {"seller.name": [(None, "y")]}),
        ({}, {"seller": {"name": "y"}}, {"seller.name": [(None, "y")]}),
        ({"seller": {"name": "x"}}, {"seller": None}, {"seller.name": [("x", ABSENT)]}),
        ({"seller": {"name": "x"}}, {}, {"seller.name": [("x", ABSENT)]}),
        ({"seller": None}, {"seller": None}, {"seller": [(None, None)]}),
        ({}, {"seller": None}, {"seller": [(None, None)]}),
        ({"seller": {}}, {"seller": None}, {"seller": [({}, None)]}),
        ({"seller": {"name": None}}, {"seller": None}, {"seller": [({"name": None}, None)]}),
        ({"seller": "x"}, {"seller": None}, {"seller": [("x", None)]}),
        ({"seller": None}, {}, {}),
        (
            {"seller": {"address": {"city": "x"}}},
            {"seller": {"address": {"city": "y"}, "name": None}},
            {"seller.name": [(None, None)], "seller.address.city": [("x", "y")]},
        ),
        ("text", {"total": 1}, {"total": [(NOTHING, 1)]}),
        ([1], {"total": None}, {"total": [(NOTHING, None)]}),
        (NOTHING, {"seller": {"name": "y"}}, {"seller.name": [(NOTHING, "y")]}),
        (NOTHING, {"seller": None}, {"seller": [(NOTHING, None)]}),
    ],
)
def test_objects(said: Any, wanted: Any, parts: dict[str, list]) -> None:
    assert beside(said, wanted) == parts


def test_a_key_with_a_point_is_itself() -> None:
    levels = {"a.b": TEXT, "a.c": TEXT}
    assert beside({"a.b": 1}, {"a.b": 2, "a": {"c": 3}}, levels) == {
        "a.b": [(1, 2)],
        "a.c": [(None, 3)],
    }
    assert beside({"a.b": 1}, {}, levels) == {"a.b": [(1, ABSENT)]}
    assert beside(NOTHING, {"a.b": 1}, levels) == {"a.b": [(NOTHING, 1)]}


def test_a_path_is_named_as_the_task_writes_it() -> None:
    levels = {"Xa.b": TEXT, "Xa.c.d": TEXT}
    assert beside({}, {"Xa": None}, levels) == {"Xa": [(None, None)]}
    assert beside({}, {"Xa": {"c": None}}, levels) == {"Xa.c": [(None, None)]}


@pytest.mark.parametrize(
    ("said", "wanted", "names", "items"),
    [
        ([A, B], [A, B], [("A", "A"), ("B", "B")], Items(2, 2, 2)),
        ([B, A], [A, B], [("A", "A"), ("B", "B")], Items(2, 2, 2)),
        ([A], [A, B], [("A", "A"), (None, "B")], Items(1, 2, 1)),
        ([A, C], [A], [("A", "A"), ("C", ABSENT)], Items(2, 1, 1)),
        ([C], [A], [("C", ABSENT), (None, "A")], Items(1, 1, 0)),
        ([A, A], [A], [("A", "A"), ("A", ABSENT)], Items(2, 1, 1)),
        ([A], [A, A], [("A", "A"), (None, "A")], Items(1, 2, 1)),
        ([], [A], [(None, "A")], Items(0, 1, 0)),
        (None, [A], [(None, "A")], Items(0, 1, 0)),
        ("A", [A], [(None, "A")], Items(0, 1, 0)),
        ([A], None, [("A", ABSENT)], Items(1, 0, 0)),
        (["A", A], [A], [("A", "A")], Items(2, 1, 1)),
        (["zzz"], [A], [(None, "A")], Items(1, 1, 0)),
        ([A], ["zzz"], [("A", ABSENT)], Items(1, 1, 0)),
        ([{"z": 1}], [{"z": 2}], [], Items(1, 1, 0)),
        ([A, {}], [A], [("A", "A")], Items(2, 1, 1)),
    ],
)
def test_lists(said: Any, wanted: Any, names: list, items: Items) -> None:
    found, _, counted = lines(said, wanted)
    assert (found, counted) == (sorted(names, key=repr), items)


def test_the_best_assignment_is_not_the_first_fit() -> None:
    # First fit pairs the first line with either; only one pairing keeps both names.
    said = [{"name": "A", "price": 9}, {"name": "B", "price": 9}]
    wanted = [{"name": "B", "price": 9}, {"name": "A", "price": 7}]
    names, prices, items = lines(said, wanted)
    assert names == [("A", "A"), ("B", "B")]
    assert prices == [(9, 7), (9, 9)]
    assert items.paired == 2


def test_partners_share_words_where_no_field_is_right() -> None:
    said = [{"name": "blue steel kettle", "price": 5}, {"name": "red mug", "price": 5}]
    wanted = [{"name": "red mug large", "price": 6}, {"name": "blue steel kettle 2 l", "price": 6}]
    names, _, items = lines(said, wanted)
    assert names == [("blue steel kettle", "blue steel kettle 2 l"), ("red mug", "red mug large")]
    assert items.paired == 2


def test_strangers_have_no_partner() -> None:
    # One field of four alike: the line was lost and another one was made up.
    levels = {f"lines[].{key}": TEXT for key in "abcd"}
    said, wanted = ({"lines": [dict.fromkeys("bcd", v) | {"a": 1}]} for v in ("x", "y"))
    assert align.align_answer(said, wanted, levels).items["lines[]"] == Items(1, 1, 0)
    close = {"lines": [dict.fromkeys("cd", "x") | {"a": 1, "b": "y"}]}
    assert align.align_answer(close, wanted, levels).items["lines[]"] == Items(1, 1, 1)


@pytest.mark.parametrize(
    ("said", "wanted", "paired"),
    [
        ("a b c d", "a w x y", 0),  # 2 of 8 words
        ("a b c", "a w x", 1),  # 2 of 6
        ("a b c d e", "a", 1),
        ("a a a", "a w x", 1),
        ("A-B c", "a-b  C", 1),
    ],
)
def test_partners_by_their_words(said: str, wanted: str, paired: int) -> None:
    levels = {"lines[].name": TEXT}
    found = align.align_answer({"lines": [{"name": said}]}, {"lines": [{"name": wanted}]}, levels)
    assert found.items["lines[]"].paired == paired


@pytest.mark.parametrize(("right", "paired"), [(2, 0), (3, 1), (10, 1)])
@pytest.mark.parametrize("other", ["y", None])
def test_partners_by_their_fields(right: int, paired: int, other: str | None) -> None:
    levels = {f"lines[].{n}": TEXT for n in range(10)}
    wanted = {str(n): f"x{n}" for n in range(10)}
    said = {str(n): f"x{n}" if n < right else other for n in range(10)}
    said |= {"more": 1}
    found = align.align_answer({"lines": [said]}, {"lines": [wanted]}, levels)
    assert found.items["lines[]"].paired == paired


def test_parts_stand_in_the_order_of_the_answer() -> None:
    found = align.align_answer(
        {"lines": [{"name": "A", "price": 9}, B]}, {"lines": [B, A]}, LEVELS
    )
    assert [p.said for p in found.parts["lines[].name"]] == ["A", "B"]


def test_equal_lines_keep_their_order() -> None:
    said = [{"name": "A", "price": n} for n in (1, 2, 3)]
    wanted = [{"name": "A", "price": n} for n in (4, 5, 6)]
    _, prices, _ = lines(said, wanted)
    assert prices == [(1, 4), (2, 5), (3, 6)]


def test_an_empty_field_of_a_lost_line_is_no_decision() -> None:
    _, prices, _ = lines([], [{"name": "A", "price": None}])
    assert prices == []
    _, prices, _ = lines([{"name": "A", "price": None}], [{"name": "A", "price": None}])
    assert prices == [(None, None)]


def test_a_list_of_nothing_is_one_decision() -> None:
    assert beside({"lines": []}, {"lines": []}) == {"lines": [([], [])]}
    assert beside({}, {"lines": None}) == {"lines": [(None, None)]}
    assert beside({"lines": ["x"]}, {"lines": []}) == {"lines": [(["x"], [])]}
    assert beside(NOTHING, {"lines": []}) == {"lines": [(NOTHING, [])]}
    assert beside({"lines": []}, {}) == {}


def test_no_answer_has_every_field_of_every_line_wrong() -> None:
    found = beside(NOTHING, {"lines": [A, {"name": "B", "price": None}]})
    assert found == {
        "lines[].name": [(NOTHING, "A"), (NOTHING, "B")],
        "lines[].price": [(NOTHING, 1)],
    }


def test_objects_in_lines_are_opened() -> None:
    said, wanted = ({"lines": [A | {"tax": {"rate": rate}}]} for rate in (1, 2))
    assert beside(said, wanted)["lines[].tax.rate"] == [(1, 2)]


def test_lists_in_lists_are_aligned_and_counted_together() -> None:
    levels = {"orders[].id": TEXT, "orders[].lines[].name": TEXT}
    wanted = {"orders": [{"id": 1, "lines": [A, B]}, {"id": 2, "lines": [C]}]}
    said = {"orders": [{"id": 2, "lines": [C]}, {"id": 1, "lines": [B]}]}
    found = align.align_answer(said, wanted, levels)
    assert found.items == {"orders[]": Items(2, 2, 2), "orders[].lines[]": Items(2, 3, 2)}
    names = [(p.said, p.wanted) for p in found.parts["orders[].lines[].name"]]
    assert sorted(names, key=repr) == [("B", "B"), ("C", "C"), (None, "A")]


def test_the_parent_of_a_critical_field_is_critical() -> None:
    found = align.align_answer({}, {"seller": None, "lines": None}, LEVELS)
    assert {pair.name: pair.spec.critical for pair in found.pairs} == {
        "seller": True,
        "lines": False,
    }
    assert found.specs["seller"] == SlotSpec(critical=True)


def test_an_object_where_none_is_wanted_is_counted() -> None:
    assert align.align_answer({"seller": {"name": "x"}}, {"seller": None}, LEVELS).items == {
        "seller": Items(1, 0, 0)
    }
    assert align.align_answer({"seller": {}}, {}, LEVELS).items == {}


def test_long_lists_end_soon_and_identical_lines_find_each_other() -> None:
    wanted = [{"name": f"n{i}", "price": i} for i in range(300)]
    said = [{"name": f"n{i}", "price": i} for i in reversed(range(300))]
    _, prices, items = lines(said, wanted)
    assert items == Items(300, 300, 300)
    assert all(a == b for a, b in prices)
    flood = [{"name": "x", "price": i + 0.5} for i in range(1000)]
    assert lines(flood, wanted)[2].paired == 0
    mixed = [*flood[:99], {"name": "n5", "price": 0.5}, {"name": "n6", "price": 0.5}]
    # The first 100 of each side are compared.
    assert lines(mixed, wanted)[2].paired == 1
