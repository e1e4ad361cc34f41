"""What stays depends on ids and contents, never on the order in which rows come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sem.core.example import Example
from sem.dataset.clean import dedupe


def entries(rows: list[tuple[str, str, str]]) -> list[dedupe.SpillEntry]:
    """Return rows as (id, input, answer); an empty input means that the row was refused before."""
    made = []
    for offset, (name, page, answer) in enumerate(rows):
        example = Example(name, "t", page, answer) if page else None
        row = dedupe.digest_text(repr((page, answer)))
        keys = (dedupe.input_key(example), dedupe.answer_key(example)) if example else ()
        made.append(dedupe.SpillEntry(name, row, offset, *keys))
    return made


def verdicts(
    given: list[dedupe.SpillEntry], conflicts: str
) -> list[tuple[dedupe.SpillEntry, str | None]]:
    with dedupe.SpillIndex() as index:
        for entry in given:
            index.add(entry)
        return [(entry, reason) for entry, reason, _ in index.verdicts(conflicts)]


def decided(rows: list[tuple[str, str, str]], conflicts: str = "reject") -> dict[str, str | None]:
    return {entry.id: reason for entry, reason in verdicts(entries(rows), conflicts)}


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([("b", "x", "1"), ("a", "x", "1")], {"a": None, "b": "duplicate"}),
        ([("a", "x", "1"), ("b", "x", "2")], {"a": "conflict", "b": "conflict"}),
        (
            [("a", "x", "1"), ("b", "x", "2"), ("c", "x", "2")],
            {"a": "conflict", "b": "conflict", "c": "duplicate"},
        ),
        ([("a", "x", "1"), ("b", "y", "1")], {"a": None, "b": None}),
        ([("a", "", ""), ("b", "x", "1")], {"a": dedupe.OWN, "b": None}),
    ],
)
def test_equal_contents_stay_once_and_contradictions_not_at_all(rows, reasons):
    assert decided(rows) == reasons


def test_contradictions_may_stay():
    assert decided([("a", "x", "1"), ("b", "x", "2")], "keep") == {"a": None, "b": None}


def test_one_id_for_two_contents_refuses_both():
    found = [r for _, r in verdicts(entries([("a", "x", "1"), ("a", "y", "1")]), "reject")]

    assert found == ["duplicate_id", "duplicate_id"]


def test_one_row_twice_stays_once():
    found = [r for _, r in verdicts(entries([("a", "x", "1")] * 3), "reject")]

    assert found == [None, "row_twice", "row_twice"]


ROWS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(["", "x", "y"]), st.sampled_from("12"))
)


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from(["reject", "keep"]))
def test_the_order_of_rows_does_not_matter(rows, chance, conflicts):
    shuffled = list(rows)
    chance.shuffle(shuffled)

    def outcome(given: list[tuple[str, str, str]]) -> list[tuple[str, bytes, str | None]]:
        made = verdicts(entries(given), conflicts)
        return sorted((e.id, e.row, str(reason)) for e, reason in made)

    assert outcome(rows) == outcome(shuffled)
