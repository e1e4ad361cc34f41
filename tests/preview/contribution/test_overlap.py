"""What a contribution must not be graded on, and what it teaches twice."""

import numpy as np
import pytest

from sem.preview.contribution import overlap
from sem.preview.contribution.contribution import Sample

TEXT = "where is the card that I ordered a week ago from your shop"


def text(said: str, label: str = "a") -> Sample:
    return Sample("row", label, said)


def numbers(*values: float, label: str = "a") -> Sample:
    return Sample("row", label, features=values)


def table(count: int, seed: int = 1) -> list[Sample]:
    rows = np.random.default_rng(seed).normal(100, 30, (count, 4))
    return [numbers(*map(float, row)) for row in rows]


@pytest.mark.parametrize(
    ("said", "exact", "near"),
    [
        (TEXT, 1, 0),
        (f"  {TEXT.upper()} ?!", 1, 0),
        (f"{TEXT}, please", 0, 1),
        ("how do I change my pin", 0, 0),
        ("?!", 0, 0),
    ],
)
def test_texts_of_the_benchmark_are_found_in_other_clothes(said, exact, near) -> None:
    found = overlap.find_overlap([text(said)], [], [text(TEXT), text("...")])
    assert (len(found.benchmark_exact), len(found.benchmark_near)) == (exact, near)


def test_rows_known_already_and_rows_that_contradict_are_told_apart() -> None:
    given = [text("pay it"), text("pay it", "b"), text("Pay it!"), text("new"), text("new")]
    found = overlap.find_overlap(given, [text("pay it")], [])
    assert found.base == {0, 2, 4}
    assert found.contradicts == {1}
    assert found.left_out == {0, 2, 4}


@pytest.mark.parametrize(("moved", "known"), [(0.0, True), (0.003, True), (3.0, False)])
def test_numbers_moved_by_nothing_that_matters_are_known(moved, known) -> None:
    base = table(50)
    given = [numbers(*(v + moved for v in base[7].features))]
    assert (overlap.find_overlap(given, base, []).base == {0}) is known
    assert (overlap.find_overlap(given, [], base).benchmark == {0}) is known


def test_close_numbers_under_another_label_contradict() -> None:
    base = table(50)
    given = [numbers(*(v + 0.003 for v in base[7].features), label="b")]
    found = overlap.find_overlap(given, base, [])
    assert (found.base, found.contradicts) == (set(), {0})


def test_distances_hold_where_one_column_dwarfs_the_others() -> None:
    base = [numbers(1e9 + n, n / 10) for n in range(100)]
    given = [numbers(1e9 + n + 0.5, n / 10 + 0.05) for n in range(99)]
    assert overlap.find_overlap(given, base, []).base == set()


@pytest.mark.filterwarnings("error")
def test_missing_numbers_are_compared_as_their_median() -> None:
    nan = float("nan")
    base = [numbers(nan, 1.0), numbers(nan, 2.0), numbers(nan, 3.0)]
    found = overlap.find_overlap([numbers(nan, 2.0), numbers(nan, 2.5)], base, [])
    assert found.base == {0}
